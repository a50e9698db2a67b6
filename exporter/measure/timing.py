"""What is measured of an engine: its latency, and where its time goes.

A speedup is over a baseline on the same device, always: `Latency` holds no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from exporter.artifact import ElementType, Skipped
from exporter.targets.target import MachineKind

DISTURBING_LOAD: Final = 0.1
"""From this share of the processors taken by others on, the user is told. It judges nothing: on a
virtual machine the host's other guests may be in it."""


@dataclass(frozen=True)
class Conditions:
    """How a build is measured."""

    threads: int
    rounds: int
    """Interleaved rounds a batch size."""
    seed: int
    """Of the inputs, of the order within a round and of the resampling."""
    batches: tuple[int, ...]


@dataclass(frozen=True)
class BaselineFacts:
    """A baseline: where it runs, and what it is in words."""

    device: MachineKind
    words: str


BASELINES: Final[Mapping[str, BaselineFacts]] = {
    "torch-eager": BaselineFacts(MachineKind.CPU, "eager PyTorch"),
    "torch-eager-cuda": BaselineFacts(
        MachineKind.GPU, "eager PyTorch on the GPU (float32, TF32 off)"
    ),
    "onnxruntime-as-given": BaselineFacts(
        MachineKind.CPU, "the given file in ONNX Runtime, all optimizations on"
    ),
    "onnxruntime-cuda-as-given": BaselineFacts(
        MachineKind.GPU, "the given file in ONNX Runtime on the GPU, all optimizations on"
    ),
}
"""By the name that the manifest has of it."""


@dataclass(frozen=True)
class Speedup:
    """Paired ratio baseline / engine: more than 1 is faster than the baseline."""

    median: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class ComputeTime:
    """What a GPU itself takes for an inference whose input is in its memory already.

    Between two CUDA events, the input rotating among more buffers than the L2 cache holds. The
    baseline is timed in the same way.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    eager_p50_ms: float
    """The baseline's."""
    speedup: Speedup
    stable: bool
    cuda_graph: bool
    """The engine's launches are one replayed CUDA graph; the baseline's never are."""


@dataclass(frozen=True)
class GpuUse:
    """What NVML says of the GPU: in the whole run, and while one engine ran without a pause."""

    samples: int
    """In the whole run; a tenth of a second apart."""
    sm_clock_mhz: tuple[int, int]
    """The least and the most."""
    temperature_c: tuple[int, int]
    throttled: tuple[str, ...]
    """Each reason for which the clock was held down meanwhile; empty: none."""
    power_w: float | None
    """Of this engine, its inferences back to back."""
    energy_per_image_j: float | None
    memory_bytes: int | None
    """Of the GPU's memory, taken by the engine's process: its peak, since none is given back. The
    inputs that rotate are in it."""


@dataclass(frozen=True)
class Latency:
    """One engine against the baseline at one batch size, interleaved in one run.

    Times are end to end, from host memory to host memory, on every device: for a GPU both transfers
    are in them. So they compare across devices; speedups compare within one.
    """

    batch: int
    threads: int
    warmup: int
    rounds: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    eager_p50_ms: float
    """The baseline's, whichever it is."""
    baseline: str
    """A key of BASELINES: eager PyTorch or, for an ONNX input, the file as given, on `device`."""
    speedup: Speedup
    stable: bool
    eager_p90_ms: float | None = None
    """The baseline's; builds from before it was kept have none."""
    other_load: float | None = None
    """The share of the machine's processor time that other processes took meanwhile, 0 to 1."""
    device: MachineKind = MachineKind.CPU
    """Where engine and baseline ran."""
    compute: ComputeTime | None = None
    """On the GPU alone; None on a CPU, which has no transfers to leave out."""
    gpu: GpuUse | Skipped = Skipped("not measured on a GPU")
    p50_ci95_ms: tuple[float, float] | None = None
    """The interval of `p50_ms`, over this run's rounds; older builds have none."""

    def __post_init__(self) -> None:
        known = BASELINES.get(self.baseline)
        if known is not None and known.device is not self.device:
            raise ValueError(
                f"an engine on the {self.device} cannot be compared with {self.baseline}, which "
                f"ran on the {known.device}"
            )

    @property
    def throttled(self) -> tuple[str, ...]:
        """Why the GPU's clock was held down meanwhile; empty: it was not, or nobody knows."""
        return self.gpu.throttled if isinstance(self.gpu, GpuUse) else ()


@dataclass(frozen=True)
class BlockTime:
    """One residual block in the runtime's own profile."""

    name: str
    microseconds: float
    share: float
    """Of the time of all kernels."""


@dataclass(frozen=True)
class LayerTime:
    """One convolution or matrix product in the profile, everything fused into it included."""

    name: str
    block: str
    """"" outside the residual blocks."""
    op: str
    dtype: ElementType
    microseconds: float
    macs: int
    """Of the whole batch."""
    bytes: int
    """Input, weights, output and a fused shortcut, each once, in the type that it computes in."""


@dataclass(frozen=True)
class Profile:
    """Where an engine's time goes (`measure/profile.py`)."""

    source: str
    batch: int
    threads: int
    runs: int
    total_us: float
    """The sum over all kernels: not the latency, since the profiler costs time itself."""
    outside_us: float
    """Of kernels that belong to no residual block."""
    blocks: tuple[BlockTime, ...]
    layers: tuple[LayerTime, ...]


@dataclass(frozen=True)
class KernelBound:
    """The least time that one kernel can take on the GPU that was measured, and why."""

    name: str
    dtype: ElementType
    macs: int
    """Of the whole batch."""
    bytes: int
    """Everything that it reads and writes, each once."""
    least_us: float
    bound: str
    """"memory" or "arithmetic"."""


@dataclass(frozen=True)
class LowerBound:
    """The sum of what each kernel takes at least (`measure/bounds.py`)."""

    batch: int
    least_us: float
    kernels: tuple[KernelBound, ...]


@dataclass(frozen=True)
class Measurement:
    """What was measured of one engine."""

    latency: Latency | Skipped
    """At the first batch size."""
    latency_by_batch: tuple[Latency, ...]
    profile: Profile | Skipped
    failure: str | None = None
    """How its process failed or died while it was measured."""
    bound: LowerBound | Skipped = Skipped("no GPU was measured")

    @classmethod
    def skipped(cls, reason: str) -> Measurement:
        return cls(Skipped(reason), (), Skipped(reason))


@dataclass(frozen=True)
class Ceilings:
    """Giga-operations (two to a multiply-accumulate) and gigabytes a second, on `threads`."""

    threads: int
    fp32_gops: float
    int8_gops: float
    copy_gb_s: float
    kernels: dict[str, float]
    """Each kernel that was tried, in GOP/s."""
    left_out: dict[str, Skipped] = field(default_factory=dict)
    """Each kernel that could not be tried, and why."""
    bf16_gops: float | None = None
    """None: this CPU has no BF16 arithmetic, or nothing that uses it is here."""


@dataclass(frozen=True)
class GpuCeilings:
    """What the GPU computes and copies at most, by PyTorch: 10^9 operations and bytes a second.

    Two operations to a multiply-accumulate. A type that cannot be tried is in `left_out`.
    """

    gops: dict[str, float]
    """Of "fp32" (TF32 off), "tf32", "fp16", "bf16" and "int8", the fastest product of each."""
    copy_gb_s: float
    """In the GPU's own memory; the bytes are those read and those written."""
    left_out: dict[str, Skipped] = field(default_factory=dict)


@dataclass(frozen=True)
class MachineCeilings:
    """Those of the machine's CPU and of its GPU."""

    cpu: Ceilings | Skipped
    gpu: GpuCeilings | Skipped

    @classmethod
    def skipped(cls, reason: str) -> MachineCeilings:
        return cls(Skipped(reason), Skipped(reason))
