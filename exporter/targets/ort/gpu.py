"""ONNX Runtime sessions on a GPU provider, where nothing runs on the CPU unless that was allowed.

A GPU provider that does not load, or that does not take a node, leaves the work to the CPU
provider without a word (onnxruntime#23372, #27006). So four things are checked: that what the
provider is linked with loads (`runtime/gpu_libraries.py`), the session's first provider,
`session.disable_cpu_ep_fallback`, and the provider of each node. Whether nodes on the CPU were
allowed is kept in a file beside the engine, so that it opens as it was built.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from exporter import host
from exporter.artifact import Precision, Skipped
from exporter.errors import BuildError, MissingDependencyError, UsageError, install_command
from exporter.runtime import gpu_libraries
from exporter.runtime.errors import reason_of
from exporter.targets.diagnosis import (
    NO_GPU,
    Status,
    TargetDiagnosis,
    import_problem,
    require,
    with_version,
)
from exporter.targets.ort.session import (
    DISABLED_OPTIMIZERS,
    OrtSession,
    session_options,
    version,
)
from exporter.targets.probe import why_it_fails
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

    def check_precision(self, precision: Precision) -> None:
        """Raises UsageError for a precision in which nobody has seen what the provider does."""
        if precision not in self.precisions:
            raise UsageError(
                f"target {self.name} is not built in {precision}: what ONNX Runtime makes of it "
                "there was never seen; use --target tensorrt"
            )

    def runs_here(self) -> Skipped | None:
        return None if host.describe_host().gpu else Skipped("no NVIDIA GPU here")


def require_provider(provider: str, target: str) -> None:
    """Raises MissingDependencyError where this machine cannot offer a GPU provider."""
    require(target, "onnxruntime-gpu", "onnxruntime", install_command("gpu"))
    import onnxruntime as ort

    if provider not in ort.get_available_providers():
        raise MissingDependencyError(
            f"target {target} needs onnxruntime-gpu, and the onnxruntime {version()} here "
            f"has no {provider}; run: {_install()}"
        )
    if host.describe_host().gpu is None:
        raise MissingDependencyError(
            f"target {target} runs on an NVIDIA GPU, and no driver answers here; "
            "use ort-cpu or openvino on this machine"
        )
    obstacle = gpu_libraries.why_not(provider)
    if obstacle is not None:
        raise MissingDependencyError(f"target {target}: {obstacle}")


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _diagnose_provider(name: str, provider: str, here: host.Host) -> TargetDiagnosis:
    missing = TargetDiagnosis(name, Status.MISSING, NO_GPU)
    problem = import_problem("onnxruntime")
    if problem is not None:
        found = f"onnxruntime {problem}"
        return missing if here.gpu is None else replace(missing, detail=found, command=_install())
    import onnxruntime as ort

    found = with_version("onnxruntime", here)
    if provider not in ort.get_available_providers():
        found = f"{found} has no {provider}"
        return missing if here.gpu is None else replace(missing, detail=found, command=_install())
    obstacle = gpu_libraries.why_not(provider)
    if obstacle is not None:
        return replace(missing, detail=f"{found}: {obstacle.reason}", command=obstacle.command)
    refused = why_it_fails(provider)
    if refused is not None:
        return replace(missing, detail=refused)
    return TargetDiagnosis(name, Status.AVAILABLE, f"{found}; {provider} ran a convolution")


def _install() -> str:
    """What adds ONNX Runtime's GPU providers; the package for the CPU has to go first."""
    swap = "pip uninstall -y onnxruntime && " if _installed("onnxruntime") else ""
    return f"{swap}{install_command('gpu')}"


def why_no_session(provider: str) -> str | None:
    """None where the provider really runs a convolution in this process, else the reason."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 4, 4])
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 1, 2, 2])
    weight = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "weight")
    convolution = helper.make_node("Conv", ["image", "weight"], ["answer"], name="convolution")
    graph = helper.make_graph([convolution], "probe", [image], [answer], [weight])
    opset = helper.make_opsetid("", 20)
    with tempfile.TemporaryDirectory(prefix="exporter-") as folder:
        path = Path(folder, "probe.onnx")
        save(helper.make_model(graph, ir_version=10, opset_imports=[opset]), path)
        try:
            with OrtSession(gpu_session(path, provider, {})) as session:
                session.run(np.ones((1, 1, 4, 4), np.float32))
        except BuildError as error:
            return str(error)
    return None


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

    obstacle = gpu_libraries.why_not(provider)
    if obstacle is not None:
        raise BuildError(f"onnxruntime {version()} cannot run {model.name}: {obstacle}")
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
