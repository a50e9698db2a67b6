"""report.json: the manifest as a flat row for each engine, for scripts and `exporter compare`.

What is compared is in `Rows`, `EngineRow` and `TimingRow`; a result of benchmarks/ has that as
well, beside figures of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from exporter.artifact import Precision, Skipped, Verdict
from exporter.builds.records import EngineRecord, FailedEngine, HostRecord, Manifest
from exporter.measure.timing import Latency
from exporter.prove.certificate import Parity, Scope
from exporter.targets import MachineKind

KIND: Final = "report"


@dataclass(frozen=True, kw_only=True)
class HostRow:
    """What timings depend on, whatever the software: two hosts that differ here are two hosts."""

    cpu: str
    system: str
    logical_cpus: int
    cpu_flags: tuple[str, ...]
    gpu: str | None
    compute_capability: str | None


HOST_KEYS: Final = tuple(field.name for field in fields(HostRow))


@dataclass(frozen=True, kw_only=True)
class TimingRow:
    """One engine at one batch size, against its baseline."""

    batch: int
    threads: int
    baseline: str
    p50_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float
    stable: bool
    device: MachineKind = MachineKind.CPU
    """Where engine and baseline ran."""


@dataclass(frozen=True, kw_only=True)
class EngineRow:
    """One engine. Where a figure was not obtained, a `..._skipped` says why."""

    id: str
    rejected: bool
    rel_l2: float | None
    top1: float | None
    parity_skipped: str | None
    latency_skipped: str | None
    latencies: tuple[TimingRow, ...]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One run of some engines on one machine."""

    model: str
    weights_sha256: str
    evaluation_sha256: str | None
    host: HostRow
    versions: dict[str, str]
    failures: tuple[str, ...]
    engines: tuple[EngineRow, ...]


@dataclass(frozen=True, kw_only=True)
class ReportTiming(TimingRow):
    """The same with the rounds and more milliseconds."""

    rounds: int
    p90_ms: float
    p99_ms: float
    eager_p50_ms: float
    """The baseline's."""
    p50_ci95_ms: tuple[float, float] | None = None
    compute_p50_ms: float | None = None
    """On the GPU alone, without the transfers that `p50_ms` has."""
    compute_speedup: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReportEngine(EngineRow):
    """The same with the counts of the receipt and all errors."""

    target: str
    precision: Precision
    path: str
    sha256: str
    bytes: int
    failures: tuple[str, ...] = ()
    receipt_verdict: Verdict
    receipt_expected: Verdict
    receipt_reason: str | None
    convs: int
    convs_quantized: int
    batchnorms_folded: int
    residual_adds: int
    residual_adds_fused: int
    float_ops: int
    extra_kernels: int
    parity_passed: bool | None
    parity_scope: Scope | None
    max_abs: float | None
    cosine: float | None
    sqnr_db: float | None
    top1_agreement: float | None
    batch_max_abs: float | None = None
    output: str = ""
    """Whose the errors are, where the network has several outputs: the worst one's."""
    top1_reference: float | None
    latencies: tuple[ReportTiming, ...]


@dataclass(frozen=True, kw_only=True)
class FlatReport(Rows):
    """What report.json holds, beside its schema and kind."""

    trained: bool
    recommended: str | None
    """The fastest engine that passed every gate."""
    engines: tuple[ReportEngine, ...]
    failed_engines: tuple[FailedEngine, ...] = ()


def flat(manifest: Manifest) -> FlatReport:
    """The flat view of a manifest."""
    model, fastest = manifest.model, manifest.fastest
    return FlatReport(
        model=model.name,
        weights_sha256=model.weights.sha256,
        evaluation_sha256=manifest.data.evaluation.sha256,
        host=_host(manifest.host),
        versions=manifest.host.versions,
        failures=manifest.failures,
        trained=model.weights.trained,
        recommended=fastest.id if fastest else None,
        engines=tuple(_engine(engine) for engine in manifest.engines),
        failed_engines=manifest.failed_engines,
    )


def _host(host: HostRecord) -> HostRow:
    return HostRow(**{key: getattr(host, key) for key in HOST_KEYS})


def _engine(engine: EngineRecord) -> ReportEngine:
    receipt, accuracy, latency = engine.receipt, engine.accuracy, engine.latency
    parity = engine.parity if isinstance(engine.parity, Parity) else None
    return ReportEngine(
        id=engine.id,
        target=engine.target,
        precision=engine.precision,
        path=engine.path,
        sha256=engine.files[0].sha256,
        bytes=engine.bytes,
        rejected=engine.rejected,
        failures=engine.failures,
        receipt_verdict=receipt.verdict,
        receipt_expected=receipt.expected,
        receipt_reason=receipt.reason,
        convs=receipt.convs,
        convs_quantized=receipt.convs_quantized,
        batchnorms_folded=receipt.batchnorms_folded,
        residual_adds=receipt.residual_adds,
        residual_adds_fused=receipt.residual_adds_fused,
        float_ops=receipt.float_ops,
        extra_kernels=receipt.extra_kernels,
        parity_skipped=engine.parity.skipped if isinstance(engine.parity, Skipped) else None,
        parity_passed=parity.passed if parity else None,
        parity_scope=parity.scope if parity else None,
        max_abs=parity.max_abs if parity else None,
        rel_l2=parity.rel_l2 if parity else None,
        cosine=parity.cosine if parity else None,
        sqnr_db=parity.sqnr_db if parity else None,
        top1_agreement=_agreement(parity) if parity else None,
        batch_max_abs=parity.batch_max_abs if parity else None,
        output=parity.output if parity else "",
        top1=accuracy.top1 if accuracy else None,
        top1_reference=accuracy.top1_reference if accuracy else None,
        latency_skipped=latency.skipped if isinstance(latency, Skipped) else None,
        latencies=tuple(_timing(one) for one in engine.latencies),
    )


def _agreement(parity: Parity) -> float | None:
    found = parity.top1_agreement
    return None if isinstance(found, Skipped) else found


def _timing(latency: Latency) -> ReportTiming:
    low, high = latency.speedup.ci95
    return ReportTiming(
        batch=latency.batch,
        threads=latency.threads,
        baseline=latency.baseline,
        rounds=latency.rounds,
        p50_ms=latency.p50_ms,
        p90_ms=latency.p90_ms,
        p99_ms=latency.p99_ms,
        eager_p50_ms=latency.eager_p50_ms,
        speedup=latency.speedup.median,
        speedup_low=low,
        speedup_high=high,
        stable=latency.stable,
        device=latency.device,
        p50_ci95_ms=latency.p50_ci95_ms,
        compute_p50_ms=latency.compute.p50_ms if latency.compute else None,
        compute_speedup=latency.compute.speedup.median if latency.compute else None,
    )
