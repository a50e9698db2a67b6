"""The machine-learning bill of materials: CycloneDX 1.6, JSON.

The model with its card, its engines with their hashes, the data sets, and the libraries that
built them. No time stamp, and a serial number that follows from the contents: packing again gives
the same bytes. https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

import exporter
from exporter.pack.packable import Release

SPECIFICATION: Final = "1.6"
# PyPI's names where they are not the manifest's.
_DISTRIBUTIONS: Final = {
    "onnx_ir": "onnx-ir",
    "tensorrt_rtx": "tensorrt-rtx-cu13",
    "exporter": "resnet-exporter",
}


def bill_of_materials(release: Release) -> str:
    """The text of sbom.cdx.json."""
    manifest = release.manifest
    libraries = [
        _library(name, version)
        for name, version in manifest["host"]["versions"].items()
        if name != "python"
    ]
    data = [
        _data_set(role, entry) for role, entry in manifest["data"].items() if "skipped" not in entry
    ]
    engines = [_engine(entry) for entry in release.engines]
    model = _model(release, [component["bom-ref"] for component in data])
    bill: dict[str, Any] = {
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
            "component": model,
        },
        "components": [*engines, *data, *libraries],
        "dependencies": [
            {
                "ref": model["bom-ref"],
                "dependsOn": [part["bom-ref"] for part in (*engines, *data)],
            },
            *({"ref": engine["bom-ref"], "dependsOn": []} for engine in engines),
        ],
    }
    contents = json.dumps(bill, sort_keys=True)
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"resnet-exporter:{contents}")
    bill["serialNumber"] = f"urn:uuid:{serial}"
    return json.dumps(bill, indent=1, ensure_ascii=False) + "\n"


def _model(release: Release, data: list[str]) -> dict[str, Any]:
    entry = release.manifest["model"]
    shape = " x ".join(map(str, entry["input"]["shape"]))
    properties = {
        "trained": str(entry["weights"]["trained"]).lower(),
        "parameters": str(entry["parameters"]),
        "multiply-accumulates": str(entry["macs"]),
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": entry["name"],
        "description": f"{entry['source']}; weights: {entry['weights']['source']}",
        "hashes": [{"alg": "SHA-256", "content": entry["weights"]["sha256"]}],
        "modelCard": {
            "modelParameters": {
                "task": "image classification",
                "architectureFamily": "residual network",
                "modelArchitecture": entry["name"],
                "datasets": [{"ref": reference} for reference in data],
                "inputs": [{"format": f"{entry['input']['dtype']} {shape}"}],
                "outputs": [
                    {"format": f"{release.manifest['bundle']['answers']}, {len(release.labels)}"}
                ],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [
                    metric for engine in release.engines for metric in _metrics(engine)
                ]
            },
            "considerations": {
                "useCases": ["classifying images of the kind that the model was trained on"],
                "technicalLimitations": [
                    "images must be prepared as the manifest's preprocessing says",
                    "probabilities are not calibrated",
                ],
            },
        },
        "properties": _properties(properties),
    }


def _metrics(engine: dict[str, Any]) -> list[dict[str, Any]]:
    """An engine's error, accuracy and latency, each with the engine as its slice."""
    figures = {"relative L2 error against eager PyTorch": f"{engine['parity']['rel_l2']:.6g}"}
    if engine["accuracy"]:
        figures["top-1 accuracy"] = f"{engine['accuracy']['top1']:.6g}"
    metrics: list[dict[str, Any]] = [
        {"type": kind, "value": value, "slice": engine["id"]} for kind, value in figures.items()
    ]
    if "skipped" not in engine["latency"]:
        speedup = engine["latency"]["speedup"]
        low, high = speedup["ci95"]
        metrics.append(
            {
                "type": "speedup over eager PyTorch",
                "value": f"{speedup['median']:.4g}",
                "slice": engine["id"],
                "confidenceInterval": {"lowerBound": f"{low:.4g}", "upperBound": f"{high:.4g}"},
            }
        )
    return metrics


def _engine(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"engine:{entry['id']}",
        "name": entry["id"],
        "hashes": [{"alg": "SHA-256", "content": entry["sha256"]}],
        "components": [
            {
                "type": "file",
                "name": file["path"],
                "hashes": [{"alg": "SHA-256", "content": file["sha256"]}],
            }
            for file in entry["files"]
        ],
        "properties": _properties(
            {
                "target": entry["target"],
                "precision": entry["precision"],
                "dialect": entry["dialect"],
            }
        ),
    }


def _data_set(role: str, entry: dict[str, Any]) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "data",
        "bom-ref": f"data:{role}",
        "name": entry["source"],
        "data": [{"type": "dataset", "name": entry["source"]}],
        "properties": _properties({"role": role, "samples": str(entry["samples"])}),
    }
    if entry.get("sha256"):
        component["hashes"] = [{"alg": "SHA-256", "content": entry["sha256"]}]
    return component


def _library(name: str, version: str) -> dict[str, Any]:
    distribution = _DISTRIBUTIONS.get(name, name)
    return {
        "type": "library",
        "bom-ref": f"library:{name}",
        "name": distribution,
        "version": version,
        "purl": f"pkg:pypi/{distribution}@{version.partition('+')[0]}",
    }


def _properties(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": f"exporter:{name}", "value": value} for name, value in values.items()]
