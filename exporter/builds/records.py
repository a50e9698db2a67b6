"""What manifest.json holds, as the pipeline made it and as it is read back: frozen data.

A field's name here is its name in the file, but for `Engine.built_from`, which is `graph` there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from exporter.artifact import Engine, ModelKind, ModelSpec, Precision, Skipped
from exporter.builds.request import ExportRequest
from exporter.host import Host
from exporter.measure.interleaved import EagerBaseline, OnnxBaseline
from exporter.measure.throughput import Throughput
from exporter.measure.timing import (
    BASELINES,
    Ceilings,
    GpuCeilings,
    Latency,
    LowerBound,
    Measurement,
    Profile,
)
from exporter.prove.certificate import Accuracy, Parity, Receipt
from exporter.prove.gate_record import Gate
from exporter.search.record import MixedSearch
from exporter.targets import MachineKind, Prediction, device_of

NOT_MEASURED: Final = "nothing was measured"
NO_THROUGHPUT: Final = "not measured; `exporter benchmark --throughput` does"
NOT_GATED: Final = "not gated; `exporter gate` does"


@dataclass(frozen=True, kw_only=True)
class EngineRecord(Engine):
    """An engine and everything that was proved about it: one entry of the manifest."""

    receipt: Receipt
    parity: Parity | Skipped
    accuracy: Accuracy | None = None
    latency: Latency | Skipped = Skipped("not measured")
    """At the first batch size that was asked for."""
    latency_by_batch: tuple[Latency, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user should know of this engine: a recommendation, a count of flushed values."""
    predicted: tuple[Prediction, ...] = ()
    """Roofline estimates for named GPUs; never mixed with measured figures."""
    profile: Profile | Skipped = Skipped("not profiled: it was not measured")
    failures: tuple[str, ...] = ()
    """Each gate that it failed, and the stage in which it broke; then it is rejected."""
    bound: LowerBound | Skipped = Skipped("no GPU was measured")
    """The least time that its kernels can take on the GPU that was measured."""
    search: MixedSearch | None = None
    """How the blocks that it keeps in float were found; of engines in `mixed`."""

    @property
    def passed(self) -> bool:
        """Parity was checked and passed, and nothing rejected the engine."""
        return isinstance(self.parity, Parity) and self.parity.passed and not self.rejected

    @property
    def latencies(self) -> tuple[Latency, ...]:
        """All measurements, one a batch size."""
        if self.latency_by_batch:
            return self.latency_by_batch
        return (self.latency,) if isinstance(self.latency, Latency) else ()


def with_measurement(engine: EngineRecord, found: Measurement) -> EngineRecord:
    """The engine with what was measured of it last; whatever was known before is gone."""
    return on_its_own_device(
        replace(
            engine,
            latency=found.latency,
            latency_by_batch=found.latency_by_batch,
            profile=found.profile,
            bound=found.bound,
        )
    )


def on_its_own_device(engine: EngineRecord) -> EngineRecord:
    """The engine without latencies over a baseline on another device than its own.

    Builds from before baselines had devices compared engines on a GPU with eager PyTorch on a CPU.
    """
    device = device_of(engine.target)
    foreign = [one for one in engine.latencies if device is not None and one.device is not device]
    if not foreign:
        return engine
    why = (
        f"it was compared with {foreign[0].baseline} on the {foreign[0].device} and runs on the "
        f"{device}; measure it again"
    )
    return replace(engine, latency=Skipped(why), latency_by_batch=())


@dataclass(frozen=True)
class FailedEngine:
    """An engine that was asked for and of which there is no file."""

    id: str
    target: str
    precision: Precision
    stage: str
    """Where it failed: "plan" (its library or hardware is missing), "lower", "search" (of its
    blocks), "build" or "prove"."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class HostRecord(Host):
    """The machine that measured the build (its builder, where nothing was measured)."""

    ceilings: Ceilings | Skipped = Skipped(NOT_MEASURED)
    gpu_ceilings: GpuCeilings | Skipped = Skipped("no GPU was measured")


@dataclass(frozen=True)
class SamplesRecord:
    """Which inputs were used."""

    source: str
    samples: int
    sha256: str


@dataclass(frozen=True)
class DataRecord:
    """The inputs that calibrated INT8, and those that all engines were compared on."""

    calibration: SamplesRecord | Skipped
    evaluation: SamplesRecord


@dataclass(frozen=True)
class Manifest:
    """The one record of a build; the report and the bundle are views of it."""

    model: ModelSpec
    request: ExportRequest
    """As it was carried out: defaults filled in, paths reduced to their last part."""
    host: HostRecord
    data: DataRecord
    engines: tuple[EngineRecord, ...]
    failures: tuple[str, ...] = ()
    """"engine: what failed", a line each; the command then ended with exit code 1."""
    timings: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds."""
    failed_engines: tuple[FailedEngine, ...] = ()
    throughput: Throughput | Skipped = Skipped(NO_THROUGHPUT)
    """Measured in one go with the latencies."""
    gate: Gate | Skipped = Skipped(NOT_GATED)
    """What `exporter gate` found of these engines' files last."""

    def only(self, engines: tuple[EngineRecord, ...]) -> Manifest:
        """The manifest of these of its engines alone."""
        measured = self.throughput
        if not isinstance(measured, Skipped):
            measured = measured.of_engines(engine.id for engine in engines)
        gate = self.gate
        if not isinstance(gate, Skipped):
            ids = {engine.id for engine in engines}
            gate = replace(gate, engines=tuple(one for one in gate.engines if one.id in ids))
        return replace(self, engines=engines, throughput=measured, gate=gate)

    def engine(self, identity: str) -> EngineRecord | None:
        """The engine of that id; None: the build has none."""
        return next((engine for engine in self.engines if engine.id == identity), None)

    @property
    def devices(self) -> tuple[MachineKind, ...]:
        """Where engines were measured."""
        found = {one.device for engine in self.engines for one in engine.latencies}
        return tuple(device for device in MachineKind if device in found)

    def baseline_on(self, device: MachineKind) -> str:
        """What speedups on a device are over, in words."""
        names = (OnnxBaseline if self.model.kind is ModelKind.ONNX else EagerBaseline).names
        return BASELINES[names[device]].words

    @property
    def baseline(self) -> str:
        """What speedups are over, in words; where two devices were measured, each on its own."""
        devices = self.devices or (MachineKind.CPU,)
        words = [self.baseline_on(device) for device in devices]
        return words[0] if len(words) == 1 else f"its own device's baseline ({'; '.join(words)})"

    def fastest_on(self, device: MachineKind) -> EngineRecord | None:
        """The engine with the highest speedup on a device, of those that passed every gate."""
        measured = [
            (engine.latency.speedup.median, engine)
            for engine in self.engines
            if engine.passed
            and isinstance(engine.latency, Latency)
            and engine.latency.device is device
            and math.isfinite(engine.latency.speedup.median)
        ]
        return max(measured, key=lambda pair: pair[0])[1] if measured else None

    @property
    def fastest(self) -> EngineRecord | None:
        """The fastest engine that passed every gate, if any was measured.

        On one device it is the one with the highest speedup there. Speedups on two devices are over
        two baselines and don't compare; of the fastest on each it is the one whose p50 is least,
        from host memory to host memory.
        """
        best = [found for device in MachineKind if (found := self.fastest_on(device))]
        return min(best, key=_p50_ms, default=None)


def _p50_ms(engine: EngineRecord) -> float:
    return engine.latency.p50_ms if isinstance(engine.latency, Latency) else math.inf
