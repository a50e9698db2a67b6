"""What the manifest says of a build as a whole: the model, the request, the data, the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from exporter import host
from exporter.artifact import ModelSpec, Precision, Skipped
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
from exporter.images.samples import Data
from exporter.measure.timing import Ceilings


def describe_build(
    run: Run,
    spec: ModelSpec,
    data: Data,
    evaluated: int,
    engines: Sequence[EngineRecord],
    failed: Sequence[FailedEngine],
    ceilings: Ceilings | Skipped,
) -> Manifest:
    """The manifest of a build; `evaluated` inputs were compared."""
    calibration: SamplesRecord | Skipped = Skipped("no INT8 engine was asked for")
    precisions = {engine.precision for engine in engines} | {engine.precision for engine in failed}
    if Precision.INT8 in precisions:
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
    request = run.request
    return replace(
        request,
        source=spec.source,
        weights=Path(request.weights).name,
        data=Path(request.data.name) if request.data else None,
        out=None,
        samples=evaluated,
        threads=run.conditions.threads,
    )


def describe_host(ceilings: Ceilings | Skipped) -> HostRecord:
    """This machine, and what it was measured to do at most."""
    return HostRecord(**vars(host.describe_host()), ceilings=ceilings)
