"""What the manifest says of a build as a whole: the model, the request, the data, the outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter import host
from exporter.artifact import EngineRecord, ModelSpec
from exporter.builds import manifest
from exporter.plan import ExportRequest

if TYPE_CHECKING:
    from exporter.images.samples import Samples


def describe_build(
    spec: ModelSpec,
    request: ExportRequest,
    records: Sequence[EngineRecord],
    *,
    calibration: Samples | None,
    evaluation: Mapping[str, Any],
    threads: int,
    ceilings: Mapping[str, Any],
    failures: Sequence[str],
    timings: Mapping[str, float],
) -> dict[str, Any]:
    """The manifest. `calibration` is None where no INT8 engine was asked for."""
    calibrated: dict[str, Any] = {"skipped": "no INT8 engine was asked for"}
    if calibration is not None:
        calibrated = {
            "source": calibration.source,
            "samples": calibration.count,
            "sha256": calibration.sha256,
        }
    described: dict[str, Any] = manifest.plain(
        {
            "schema": manifest.SCHEMA,
            "model": spec,
            "request": {
                "weights": Path(request.weights).name,
                "targets": request.targets,
                "precisions": request.precisions,
                "data": request.data.name if request.data else None,
                "samples": request.samples,
                "calibration_samples": request.calibration_samples,
                "rounds": request.rounds,
                "keep": request.keep,
                "calibration_method": request.calibration_method,
                "correction": request.correction,
                "reduce_range": request.reduce_range,
                "between": request.between,
                "settings": request.settings,
                "profile": request.profile,
                "allow_partial": request.allow_partial,
                "bake_preprocess": request.bake_preprocess,
                "seed": request.seed,
                "num_classes": request.num_classes,
                "image_size": request.image_size,
                "threads": threads,
                "batches": request.batches,
            },
            "host": {**manifest.plain(host.describe_host()), "ceilings": ceilings},
            "data": {"calibration": calibrated, "evaluation": evaluation},
            "engines": [manifest.engine_entry(record) for record in records],
            "failures": failures,
            "timings": timings,
        }
    )
    return described
