"""What a target is: one runtime on one kind of hardware, and all that the compiler asks of it.

What stands on the class (`default_for`, `diagnose`, `mark`, ...) holds without the runtime's
library; an instance can only be made where the library is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias, runtime_checkable

import numpy.typing as npt

from exporter.artifact import Dialect, ElementType, Kernel, Precision, Skipped, Verdict
from exporter.errors import UsageError
from exporter.host import Host
from exporter.targets.cause import EVERYWHERE, Cause
from exporter.targets.diagnosis import TargetDiagnosis

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
ServerConfig: TypeAlias = Mapping[str, str | int | bool]
"""OpenVINO's properties by name: `plugin_config` of its model server."""

COPY_TOLERANCE: Final = 1e-5
"""Relative difference allowed between a debug copy's final output and its engine's."""


class MachineKind(StrEnum):
    """What a machine computes networks with."""

    CPU = "cpu"
    GPU = "gpu"


class Mark(StrEnum):
    """The shape that stands for a runtime in the report's charts; each is drawn there."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    DIAMOND = "diamond"
    WEDGE = "wedge"
    CROSS = "cross"


@dataclass(frozen=True)
class BuildOptions:
    """What a build may be asked for beyond graph and precision."""

    allow_fallback: bool = False
    """Accept nodes that the runtime places on the CPU, where the target `accepts_fallback`."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The target's own settings (`Target.check_settings`)."""
    batches: tuple[int, ...] = (1,)
    """The batch sizes that matter: a target with profiles tunes one for each."""
    report: Callable[[str], None] = lambda _text: None
    """Called with what a long build is doing, a few words at a time."""


@dataclass(frozen=True)
class BuildResult:
    """The files of a built engine (the first is what the runtime is given) and its needs."""

    files: tuple[Path, ...]
    requires: dict[str, Any]


class Session(Protocol):
    """An engine loaded and ready: `close` it, or use it as a context manager."""

    def run(self, batch: Array) -> Array:
        """The first output for a batch, (N, ...) of one input or records (N,) of several."""
        ...

    def run_all(self, batch: Array) -> Sequence[Array]:
        """Every output for such a batch: what is timed."""
        ...

    def run_named(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by its name, for inputs by name (debug copies have several of both)."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Session: ...

    def __exit__(self, *exc: object) -> None: ...


@dataclass(frozen=True)
class Prediction:
    """What an engine should cost on a GPU that is not here: estimated, never measured."""

    gpu: str
    batch: int
    time_ms: float
    macs: int
    bytes_moved: int
    kernels: int
    memory_bound: int
    """How many of the kernels the memory bounds."""
    basis: str
    source: str
    """Where the GPU's peaks come from."""


class Target(ABC):
    """One runtime on one kind of hardware, as it is named after `--target`."""

    family: ClassVar[str]
    """The name without a variant: "tensorrt-rtx"."""
    library: ClassVar[str]
    """The Python module that runs its engines."""
    runs_on: ClassVar[MachineKind]
    mark: ClassVar[Mark]
    has_profiles: ClassVar[bool] = False
    """Whether an engine has optimization profiles, so that `--profile` means something to it."""
    accepts_fallback: ClassVar[bool] = False
    """Whether `--allow-fallback` means something to it."""
    triton_backend: ClassVar[str | None] = None
    """Triton's own name for what serves its engines; None: Triton serves none of them."""
    cuda_graph: ClassVar[bool] = False
    """Whether an inference of its engines can be captured in a CUDA graph, and is where timed."""
    builder_image: ClassVar[str] = ""
    """NVIDIA's image with what builds its engines again, of the same tags as Triton's; "": none."""
    mixes: ClassVar[bool] = False
    """Whether it has engines in `mixed`: blocks of INT8 may stay in float there at little cost."""
    reads_qlinear: ClassVar[bool] = False
    """Whether its runtime has kernels for QLinear operators as they are written."""
    dequantizes_int32: ClassVar[bool] = True
    """Whether its runtime takes a DequantizeLinear of int32, which biases of others have."""
    prediction_example: ClassVar[str] = ""
    """Options of `export` that build an engine whose cost `predict` tells; "": it tells none."""

    name: str
    """As typed: "ort-cpu", "tensorrt-rtx:sm89"."""
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.INT8)
    """Those that it builds where it is asked for and no precision is."""
    mixes_in: tuple[Precision, ...] = (Precision.FP32,)
    """The float types in which its engines in `mixed` may keep blocks, the fastest first."""
    on_request: tuple[Precision, ...] = ()
    """Those that it builds where they are asked for; `dialect` says why it has not the others."""

    @abstractmethod
    def __init__(self, variant: str = "") -> None:
        """The target, or its variant after the colon.

        Raises:
            UsageError: it has no such variant.
            MissingDependencyError: its library is not installed, or the hardware that it builds
                on is not here.
        """

    @classmethod
    @abstractmethod
    def default_for(cls, kind: MachineKind) -> tuple[tuple[str, Precision], ...]:
        """(variant, precision) of each engine that is built there where nothing is asked for."""

    @classmethod
    @abstractmethod
    def diagnose(cls, here: Host) -> tuple[TargetDiagnosis, ...]:
        """What this machine can do with it, a line for each variant that differs."""

    @classmethod
    def why_not_loaded(cls, requires: Mapping[str, Any], version: str) -> str | None:  # noqa: ARG003
        """Why `library` in that version does not load an engine; None: nothing speaks against it.

        `requires` is what the engine's record says that it needs.
        """
        return None

    @classmethod
    def why_not_in_triton(cls, requires: Mapping[str, Any]) -> str | None:  # noqa: ARG003
        """Why the backend of Triton that serves its engines cannot serve this one; None: it can."""
        return None

    @classmethod
    def triton_options(cls, requires: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ARG003
        """Options that a Triton server needs for an engine."""
        return ()

    @classmethod
    def model_server_config(cls, streams: int, threads: int) -> ServerConfig | None:  # noqa: ARG003
        """With what OpenVINO Model Server compiles an engine as it was proved here.

        `threads` is that of each of the `streams`. None: the server would make another engine of
        it, or none.
        """
        return None

    @abstractmethod
    def dialect(self, precision: Precision) -> Dialect:
        """Which dialect this runtime fuses. Raises UsageError for a precision it does not have."""

    def needed_cpu_flags(self, precision: Precision) -> tuple[str, ...]:  # noqa: ARG002
        """CPU features, in the words of `host.FLAGS_OF_INTEREST`, that its engines are made for."""
        return ()

    @abstractmethod
    def expected(self, precision: Precision) -> Verdict:
        """The receipt's verdict that this target and precision are known to reach."""

    def activations(self, precision: Precision) -> frozenset[str]:  # noqa: ARG002 - some depend on it
        """The ONNX operators that it is known to make part of the convolution or sum before them.

        Measured, and the tests hold what is here. What is not here may be a kernel of its own
        without lowering a receipt.
        """
        return frozenset({"Relu"})

    @abstractmethod
    def runs_here(self) -> Skipped | None:
        """None where an engine can run on this machine, else why not."""

    @abstractmethod
    def build(
        self, graph: Path, precision: Precision, out: Path, options: BuildOptions
    ) -> BuildResult:
        """Writes the engine for a lowered ONNX file. `out` is the file's path without suffix.

        Raises BuildError; leaves nothing half-written.
        """

    @abstractmethod
    def open(self, engine: Path, threads: int) -> Session:
        """Loads an engine with everything that it requires set."""

    @abstractmethod
    def kernels(self, engine: Path) -> tuple[tuple[Kernel, ...], str]:
        """The kernels that the runtime really made, and what they were read from.

        Raises UnreadableKernels where they cannot be told; the receipt is then `unverified`.
        """

    def causes(self) -> frozenset[Cause]:
        """Why an engine of this runtime may be slower or less exact than it need be."""
        return EVERYWHERE

    def load_given(self, graph: Path, precision: Precision, out: Path) -> Path:
        """The engine that the runtime makes of a graph as somebody wrote it: no form of ours.

        `out` is the path of what has to be written for that, without suffix.

        Raises:
            BuildError: the runtime refuses the graph.
        """
        return self.build(graph, precision, out, BuildOptions()).files[0]

    def check_settings(self, settings: Mapping[str, str]) -> None:
        """Raises UsageError for a setting that it does not have, or a value that it cannot read."""
        if settings:
            raise UsageError(
                f"target {self.name} has no setting {next(iter(settings))!r}; leave it out"
            )

    def copy_tolerance(self, precision: Precision) -> float:  # noqa: ARG002 - some depend on it
        """Relative difference allowed between the answers of a debug copy and of its engine."""
        return COPY_TOLERANCE

    def predict(
        self,
        engine: Path,  # noqa: ARG002 - nothing is known without running it
        precision: Precision,  # noqa: ARG002
        batches: tuple[int, ...],  # noqa: ARG002
    ) -> tuple[tuple[Prediction, ...], tuple[str, ...]]:
        """Costs on hardware that is not here, and advice in words, from the built engine alone."""
        return (), ()


@runtime_checkable
class RunsOnDevice(Protocol):
    """A session that takes and leaves tensors where they are: a GPU's is timed through this."""

    def bind(self, given: torch.Tensor) -> Callable[[], torch.Tensor]:
        """A call that starts one inference of what then lies in `given`, (N, ...) on its device.

        It goes to PyTorch's current stream, or has ended when the call returns. The answer, on the
        same device, is that of the first output and is overwritten by the next call.

        Raises BuildError where the engine does not take such an input.
        """
        ...


@dataclass(frozen=True)
class KernelTraffic:
    """What one kernel computes and moves, from the shapes that its runtime tells."""

    name: str
    dtype: ElementType
    """What it multiplies, or computes in."""
    macs: int
    bytes: int
    """Inputs, weights and outputs, each once."""


@runtime_checkable
class TellsTraffic(Protocol):
    """A target whose runtime tells the shapes and types of each kernel's tensors."""

    def traffic(self, engine: Path, batch: int) -> tuple[KernelTraffic, ...]:
        """Every kernel of a built engine at one batch size, in execution order.

        Raises UnreadableKernels where they cannot be told.
        """
        ...


TimedRun = list[tuple[Kernel, float]]
"""One profiled inference: each kernel with its microseconds, in execution order."""


@runtime_checkable
class CanProfile(Protocol):
    """A target whose runtime times its own kernels."""

    def profile(
        self, engine: Path, threads: int, batch: Array, budget_s: float
    ) -> tuple[list[TimedRun], str]:
        """Inferences on `batch` in a session made for it, and what times them.

        Two to warm up are left out; three at least, then as many as `budget_s` holds.

        Raises UnreadableKernels where the profile does not list the engine's kernels.
        """
        ...


class UnreadableKernels(Exception):  # noqa: N818 - not an error of the request: it becomes a verdict
    """The runtime's own account of its kernels is missing or in an unknown form."""
