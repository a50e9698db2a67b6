"""The machine-learning bill of materials: CycloneDX 1.6, JSON.

The model with its card, its engines with their hashes, the data sets, and the libraries that
built them. No time stamp, and a serial number that follows from the contents: packing again gives
the same bytes. https://cyclonedx.org/docs/1.6/json/

Written by hand: cyclonedx-python-lib 11 has neither a component's `modelCard` nor its `data`. The
tests validate it with that library.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Final

import exporter
from exporter.artifact import Skipped
from exporter.builds.records import EngineRecord, Manifest, SamplesRecord
from exporter.measure.timing import Latency
from exporter.pack.packable import Release
from exporter.pack.tolerances import parity_of

Json = dict[str, object]

SPECIFICATION: Final = "1.6"
_MODEL: Final = "model"
# PyPI's names where they are not the manifest's.
_DISTRIBUTIONS: Final = {
    "onnx_ir": "onnx-ir",
    "tensorrt_rtx": "tensorrt-rtx-cu13",
    "exporter": "resnet-exporter",
}


def bill_of_materials(release: Release) -> str:
    """The text of sbom.cdx.json."""
    manifest = release.manifest
    sets = {"calibration": manifest.data.calibration, "evaluation": manifest.data.evaluation}
    data = {role: used for role, used in sets.items() if not isinstance(used, Skipped)}
    parts = [*map(_engine_reference, release.engines), *map(_data_reference, data)]
    bill: Json = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "resnet-exporter",
                        "version": exporter.__version__,
                    }
                ]
            },
            "component": _model(release, [*map(_data_reference, data)]),
        },
        "components": [
            *map(_engine, release.engines),
            *(_data_set(role, used) for role, used in data.items()),
            *(
                _library(name, version)
                for name, version in manifest.host.versions.items()
                if name != "python"
            ),
        ],
        "dependencies": [
            {"ref": _MODEL, "dependsOn": parts},
            *({"ref": _engine_reference(engine), "dependsOn": []} for engine in release.engines),
        ],
    }
    contents = json.dumps(bill, sort_keys=True)
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"resnet-exporter:{contents}")
    bill["serialNumber"] = f"urn:uuid:{serial}"
    return json.dumps(bill, indent=1, ensure_ascii=False) + "\n"


def _model(release: Release, data: list[str]) -> Json:
    model = release.manifest.model
    classifies = model.scores is not None
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": model.name,
        "description": f"{model.source}; weights: {model.weights.source}",
        "hashes": _hashes(model.weights.sha256),
        **_licences(model.weights.licence),
        "modelCard": {
            "modelParameters": {
                "task": "image classification" if classifies else "feature extraction",
                "architectureFamily": "residual network",
                "modelArchitecture": model.name,
                "datasets": [{"ref": reference} for reference in data],
                "inputs": [
                    {"format": f"{given.dtype} {' x '.join(map(str, given.shape))}"}
                    for given in model.inputs
                ],
                "outputs": [
                    {"format": _output_format(release, index)}
                    for index in range(len(model.outputs))
                ],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [
                    metric
                    for engine in release.engines
                    for metric in _metrics(engine, release.manifest)
                ]
            },
            "considerations": {
                "useCases": [
                    f"{'classifying' if classifies else 'features of'} images of the kind that the "
                    "model was trained on"
                ],
                "technicalLimitations": [
                    "images must be prepared as the manifest's preprocessing says",
                    "probabilities are not calibrated",
                ],
            },
        },
        "properties": _properties(
            {
                "trained": str(model.weights.trained).lower(),
                "parameters": str(model.parameters),
                "multiply-accumulates": str(model.macs),
            }
        ),
    }


def _output_format(release: Release, index: int) -> str:
    model = release.manifest.model
    if index == model.scores:
        return f"{release.bundle.answers}, {len(release.labels)}"
    output = model.outputs[index]
    return f"{output.name}, {output.dtype} {' x '.join(map(str, output.shape))}"


def _licences(name: str | None) -> Json:
    return {"licenses": [{"license": {"name": name}}]} if name else {}


def _metrics(engine: EngineRecord, manifest: Manifest) -> list[Json]:
    """An engine's error, accuracy and latency, each with the engine as its slice."""
    parity = parity_of(engine)
    figures = {f"relative L2 error against {parity.reference}": f"{parity.rel_l2:.6g}"}
    if engine.accuracy:
        figures["top-1 accuracy"] = f"{engine.accuracy.top1:.6g}"
    metrics: list[Json] = [
        {"type": kind, "value": value, "slice": engine.id} for kind, value in figures.items()
    ]
    if isinstance(engine.latency, Latency):
        speedup = engine.latency.speedup
        low, high = speedup.ci95
        metrics.append(
            {
                "type": f"speedup over {manifest.baseline_on(engine.latency.device)}"
                + ("" if engine.latency.stable else " (unstable)"),
                "value": f"{speedup.median:.4g}",
                "slice": engine.id,
                "confidenceInterval": {"lowerBound": f"{low:.4g}", "upperBound": f"{high:.4g}"},
            }
        )
    return metrics


def _engine_reference(engine: EngineRecord) -> str:
    return f"engine:{engine.id}"


def _engine(engine: EngineRecord) -> Json:
    return {
        "type": "machine-learning-model",
        "bom-ref": _engine_reference(engine),
        "name": engine.id,
        "hashes": _hashes(engine.files[0].sha256),
        "components": [
            {"type": "file", "name": file.path, "hashes": _hashes(file.sha256)}
            for file in engine.files
        ],
        "properties": _properties(
            {"target": engine.target, "precision": engine.precision, "dialect": engine.dialect}
        ),
    }


def _data_reference(role: str) -> str:
    return f"data:{role}"


def _data_set(role: str, used: SamplesRecord) -> Json:
    component: Json = {
        "type": "data",
        "bom-ref": _data_reference(role),
        "name": used.source,
        "data": [{"type": "dataset", "name": used.source}],
        "properties": _properties({"role": role, "samples": str(used.samples)}),
    }
    if used.sha256:
        component["hashes"] = _hashes(used.sha256)
    return component


def _library(name: str, version: str) -> Json:
    distribution = _DISTRIBUTIONS.get(name, name)
    return {
        "type": "library",
        "bom-ref": f"library:{name}",
        "name": distribution,
        "version": version,
        "purl": f"pkg:pypi/{distribution}@{version.partition('+')[0]}",
    }


def _hashes(sha256: str) -> list[Json]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(values: Mapping[str, str]) -> list[Json]:
    return [{"name": f"exporter:{name}", "value": value} for name, value in values.items()]
