"""ONNX Runtime sessions on a GPU provider, where nothing runs on the CPU unless that was allowed.

A GPU provider that does not load, or that does not take a node, leaves the work to the CPU
provider without a word (onnxruntime#23372, #27006). So three things are checked: the session's
first provider, `session.disable_cpu_ep_fallback`, and the provider of each node. Whether nodes on
the CPU were allowed is kept in a file beside the engine, so that it opens as it was built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from exporter import host
from exporter.artifact import Skipped
from exporter.errors import (
    BuildError,
    MissingDependencyError,
    UsageError,
    install_command,
    reason_of,
)
from exporter.targets.diagnosis import (
    NO_GPU,
    Status,
    TargetDiagnosis,
    import_problem,
    require,
    with_version,
)
from exporter.targets.ort.session import DISABLED_OPTIMIZERS, session_options, version
from exporter.targets.target import MachineKind, Target

if TYPE_CHECKING:
    import onnxruntime as ort

CPU_PROVIDER: Final = "CPUExecutionProvider"
_RECORD: Final = "session.record_ep_graph_assignment_info"
_NO_FALLBACK: Final = "session.disable_cpu_ep_fallback"


class OrtGpuTarget(Target):
    """What the targets on ONNX Runtime's GPU providers have in common."""

    library = "onnxruntime"
    runs_on = MachineKind.GPU
    accepts_fallback = True
    provider: ClassVar[str]
    """ONNX Runtime's name of it."""

    def __init__(self, variant: str = "") -> None:
        if variant:
            raise UsageError(
                f"target {self.family} has no variant {variant!r}; write {self.family}"
            )
        self.name = self.family
        require_provider(self.provider, self.name)

    @classmethod
    def diagnose(cls, here: host.Host) -> tuple[TargetDiagnosis, ...]:
        return (_diagnose_provider(cls.family, cls.provider, here),)

    def runs_here(self) -> Skipped | None:
        return None if host.describe_host().gpu else Skipped("no NVIDIA GPU here")


def require_provider(provider: str, target: str) -> None:
    """Raises MissingDependencyError where this machine cannot offer a GPU provider."""
    require(target, "onnxruntime-gpu", "onnxruntime", install_command("gpu"))
    import onnxruntime as ort

    if provider not in ort.get_available_providers():
        replace = "pip uninstall -y onnxruntime && " if _installed("onnxruntime") else ""
        raise MissingDependencyError(
            f"target {target} needs onnxruntime-gpu, and the onnxruntime {version()} here "
            f"has no {provider}; run: {replace}{install_command('gpu')}"
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


def _diagnose_provider(name: str, provider: str, here: host.Host) -> TargetDiagnosis:
    if here.gpu is None:
        return TargetDiagnosis(name, Status.MISSING, NO_GPU)
    problem = import_problem("onnxruntime")
    if problem is not None:
        return TargetDiagnosis(
            name, Status.MISSING, f"onnxruntime {problem}", install_command("gpu")
        )
    import onnxruntime as ort

    found = with_version("onnxruntime", here)
    if provider not in ort.get_available_providers():
        swap = f"pip uninstall -y onnxruntime && {install_command('gpu')}"
        return TargetDiagnosis(name, Status.MISSING, f"{found} has no {provider}", swap)
    return TargetDiagnosis(name, Status.AVAILABLE, found)


def built_with_fallback(account: Path) -> bool:
    """Whether an engine's build was allowed nodes on the CPU, as the JSON file beside it tells."""
    try:
        return bool(json.loads(account.read_text(encoding="utf-8"))["allow_fallback"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


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
    import onnxruntime as ort

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
        reason = reason_of(error)
        raise BuildError(
            f"onnxruntime {version()} does not load {model.name} on {provider}: {reason}"
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
