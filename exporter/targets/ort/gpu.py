"""ONNX Runtime sessions on a GPU provider, where nothing runs on the CPU unless that was allowed.

A GPU provider that does not load, or that does not take a node, leaves the work to the CPU
provider without a word (onnxruntime#23372, #27006). So three things are checked: the session's
first provider, `session.disable_cpu_ep_fallback`, and the provider of each node.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

from exporter import host
from exporter.errors import BuildError, MissingDependencyError
from exporter.targets.ort.session import DISABLED_OPTIMIZERS, session_options

CPU_PROVIDER: Final = "CPUExecutionProvider"
_RECORD: Final = "session.record_ep_graph_assignment_info"
_NO_FALLBACK: Final = "session.disable_cpu_ep_fallback"


def require_provider(provider: str, target: str) -> None:
    """Raises MissingDependencyError where this machine cannot offer a GPU provider."""
    if provider not in ort.get_available_providers():
        replace = ""
        if _installed("onnxruntime"):
            replace = "pip uninstall -y onnxruntime && "
        raise MissingDependencyError(
            f"target {target} needs onnxruntime-gpu, and the onnxruntime {ort.__version__} here "
            f"has no {provider}; run: {replace}pip install 'resnet-exporter[gpu]'"
        )
    if host.describe_host().gpu is None:
        raise MissingDependencyError(
            f"target {target} runs on an NVIDIA GPU, and no driver answers here; "
            "use ort-cpu or openvino on this machine"
        )


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def gpu_session(
    model: Path,
    provider: str,
    options: Mapping[str, str],
    *,
    threads: int = 1,
    allow_fallback: bool = False,
    config: ort.SessionOptions | None = None,
) -> ort.InferenceSession:
    """A session of which `provider` runs every node.

    Raises:
        BuildError: the provider did not load, or leaves nodes to the CPU; names the first ones.
    """
    session_config = config or session_options(threads)
    session_config.add_session_config_entry(_RECORD, "1")
    if not allow_fallback:
        session_config.add_session_config_entry(_NO_FALLBACK, "1")
    chain: list[Any] = [(provider, dict(options))]
    if allow_fallback and provider != CPU_PROVIDER:
        chain.append(CPU_PROVIDER)
    try:
        session = ort.InferenceSession(
            str(model),
            session_config,
            providers=chain,
            disabled_optimizers=set(DISABLED_OPTIMIZERS),
            enable_fallback=0,
        )
    except Exception as error:  # its exceptions share no narrower base
        reason = " ".join(str(error).split())
        raise BuildError(
            f"onnxruntime {ort.__version__} does not load {model.name} on {provider}: {reason}"
            f"{'' if allow_fallback else ' (--allow-fallback accepts nodes on the CPU)'}"
        ) from None
    check_placement(session.get_providers()[0], placements(session), provider, allow_fallback)
    return session


def placements(session: ort.InferenceSession) -> dict[str, str]:
    """Node name -> the provider that it was given to, as ONNX Runtime recorded it."""
    return {
        node.name: subgraph.ep_name
        for subgraph in session.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
    }


def check_placement(
    first: str, placed: Mapping[str, str], provider: str, allow_fallback: bool
) -> None:
    """Raises BuildError where the session is not on `provider` as far as was asked."""
    if first != provider:
        raise BuildError(
            f"onnxruntime fell back from {provider} to {first}; "
            "check that its CUDA, cuDNN and TensorRT libraries are the ones that it was built for"
        )
    elsewhere = [node for node, ep in placed.items() if ep != provider]
    if elsewhere and not allow_fallback:
        raise BuildError(
            f"{len(elsewhere)} of {len(placed)} nodes are not on {provider} "
            f"({', '.join(elsewhere[:3])}); --allow-fallback accepts them on the CPU"
        )
