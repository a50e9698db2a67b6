"""The measuring stage on a build's engines: who is measured and profiled, who is not and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exporter.artifact import EngineRecord, Latency, Model, Skipped
from exporter.builds import manifest
from exporter.builds.folder import REJECTED
from exporter.measure import interleaved as measure
from exporter.measure.profile import profile_records
from exporter.progress import Progress
from exporter.targets import get_target


def measure_records(
    model: Model,
    records: list[EngineRecord],
    root: Path,
    *,
    batches: tuple[int, ...],
    threads: int,
    rounds: int,
    seed: int,
    progress: Progress,
) -> list[EngineRecord]:
    """Measures every engine that passed and runs here; the others say why they were not."""
    reasons = {record.engine.id: _not_measured(record) for record in records}
    engines = [
        measure.EngineToMeasure(r.engine.id, r.engine.target, root / r.engine.path)
        for r in records
        if reasons[r.engine.id] is None
    ]
    declared = model.spec.input.shape[0]
    sizes = (declared,) if isinstance(declared, int) else batches
    results = measure.measure(
        engines,
        measure.baseline_of(model),
        batches=sizes,
        threads=threads,
        rounds=rounds,
        seed=seed,
        progress=progress,
    )
    measured = []
    for record in records:
        reason = reasons[record.engine.id]
        if reason is not None:
            measured.append(replace(record, latency=reason))
            continue
        by_batch = results[record.engine.id]
        measured.append(
            replace(
                record,
                latency=by_batch[sizes[0]],
                latency_by_batch=tuple(x for x in by_batch.values() if isinstance(x, Latency)),
            )
        )
    return measured


def profile_built(
    model: Model,
    records: list[EngineRecord],
    root: Path,
    portable: Path,
    *,
    threads: int,
    seed: int,
    progress: Progress,
) -> list[EngineRecord]:
    """The records with the time of each block; `portable` is the FP32 ONNX file."""
    spec = model.spec
    profiles = profile_records(
        [manifest.engine_entry(record) for record in records],
        root,
        portable,
        blocks=spec.residual_blocks,
        threads=threads,
        shape=spec.input.shape,
        dtype=spec.input.dtype,
        seed=seed,
        progress=progress,
    )
    return [replace(record, profile=profiles[record.engine.id]) for record in records]


def _not_measured(record: EngineRecord) -> Skipped | None:
    if record.engine.path.endswith(REJECTED):
        return Skipped("rejected: it failed a gate")
    return get_target(record.engine.target).runs_here()
