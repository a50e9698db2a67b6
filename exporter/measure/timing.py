"""What is measured of an engine: its latency, and where its time goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from exporter.artifact import ElementType, Skipped

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
class Speedup:
    """Paired ratio baseline / engine: more than 1 is faster than the baseline."""

    median: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Latency:
    """One engine against the baseline at one batch size, interleaved in one run."""

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
    """"torch-eager" or, for an ONNX input, "onnxruntime-as-given"."""
    speedup: Speedup
    stable: bool
    eager_p90_ms: float | None = None
    """The baseline's; builds from before it was kept have none."""
    other_load: float | None = None
    """The share of the machine's processor time that other processes took meanwhile, 0 to 1."""


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
class Measurement:
    """What was measured of one engine."""

    latency: Latency | Skipped
    """At the first batch size."""
    latency_by_batch: tuple[Latency, ...]
    profile: Profile | Skipped
    failure: str | None = None
    """How its process failed or died while it was measured."""

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
