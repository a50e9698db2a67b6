"""What the manifest says of a build as a whole: the model, the request, the data, the outcome."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from exporter import host
from exporter.artifact import ModelSpec, Skipped
from exporter.builds.option import given
from exporter.builds.records import (
    DataRecord,
    EngineRecord,
    FailedEngine,
    HostRecord,
    Manifest,
    SamplesRecord,
)
from exporter.builds.request import ExportRequest
from exporter.builds.run import Run
from exporter.builds.unused import fixed_batch
from exporter.images.samples import Data
from exporter.measure.timing import MachineCeilings


def describe_build(
    run: Run,
    spec: ModelSpec,
    data: Data,
    evaluated: int,
    engines: Sequence[EngineRecord],
    failed: Sequence[FailedEngine],
    ceilings: MachineCeilings,
) -> Manifest:
    """The manifest of a build; `evaluated` inputs were compared."""
    calibration: SamplesRecord | Skipped = Skipped("no INT8 engine was asked for")
    precisions = {engine.precision for engine in engines} | {engine.precision for engine in failed}
    if any(precision.quantized for precision in precisions):
        used = data.calibration.take(run.request.calibration_samples)
        calibration = SamplesRecord(used.source, used.count, used.sha256)
    whole = data.evaluation
    return Manifest(
        model=spec,
        request=as_carried_out(run, spec, evaluated),
        host=describe_host(ceilings),
        data=DataRecord(calibration, SamplesRecord(whole.source, evaluated, whole.sha256)),
        engines=tuple(engines),
        failures=tuple(
            [f"{engine.id}: {engine.reason}" for engine in failed]
            + [f"{engine.id}: {failure}" for engine in engines for failure in engine.failures]
        ),
        timings=dict(run.clock.seconds),
        failed_engines=tuple(failed),
    )


def as_carried_out(run: Run, spec: ModelSpec, evaluated: int) -> ExportRequest:
    """The request with its defaults filled in and no path of this machine in it."""
    size = fixed_batch(spec)
    return attrs.evolve(
        without_folders(run.request),
        source=spec.source,
        samples=evaluated,
        threads=run.conditions.threads,
        batches=run.request.batches if size is None else (size,),
    )


def without_folders(request: ExportRequest) -> ExportRequest:
    """The request with each path reduced to its last part, and without what is not recorded."""
    changed: dict[str, Any] = {
        "weights": _last_part(request.weights),
        "settings": {
            target: {key: _last_part(text) for key, text in own.items()}
            for target, own in request.settings.items()
        },
    }
    for declared, value in given(request):
        if declared.option.not_recorded:
            changed[declared.name] = declared.default
        elif isinstance(value, Path):
            changed[declared.name] = Path(value.name)
    return attrs.evolve(request, **changed)


def _last_part(text: str) -> str:
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1]


def describe_host(ceilings: MachineCeilings) -> HostRecord:
    """This machine, and what it was measured to do at most."""
    here = vars(host.describe_host())
    return HostRecord(**here, ceilings=ceilings.cpu, gpu_ceilings=ceilings.gpu)
