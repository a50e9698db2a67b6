"""A model repository for OpenVINO Model Server.

    config.json             the model, and with which options OpenVINO compiles it
    <model>/1/model.xml     the engine, and model.bin
    probe.py, probe.json    asks the server a golden input; golden/ has its bytes
    labels.txt, MODEL_CARD.md, sbom.cdx.json, README.md

The server takes ONNX files, too, but OpenVINO would make other engines of them than were proved:
only engines of a target that is OpenVINO itself are packed.
https://docs.openvino.ai/2026/model-server/ovms_what_is_openvino_model_server.html
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from exporter.artifact import Skipped
from exporter.builds.records import EngineRecord
from exporter.errors import UsageError
from exporter.pack.batching import Batching, plan_batching
from exporter.pack.checksums import write_sums
from exporter.pack.destination import packed_folder
from exporter.pack.model_card import model_card
from exporter.pack.packable import Release, Written, p50_of, with_engine
from exporter.pack.probe import golden_probe
from exporter.pack.request import PackRequest
from exporter.pack.sbom import bill_of_materials
from exporter.pack.served import Served, served_model
from exporter.pack.template_files import render, shipped
from exporter.runtime.description import LABELS
from exporter.targets import TARGETS, ServerConfig, target_class

VERSION: Final = "1"
IMAGE: Final = "openvino/model_server"
_FILES: Final = ("model.xml", "model.bin")


def pack_ovms(release: Release, request: PackRequest, out: Path) -> Written:  # noqa: ARG001
    """Writes a model repository, whole or not at all.

    Raises:
        UsageError: the build has no engine that the server computes as it was proved.
    """
    engine = _choose_engine(release)
    alone = with_engine(release, engine)
    batching = _plan(alone, engine)
    with packed_folder(out) as folder:
        _write(alone, engine, batching, folder)
        write_sums(folder)
    return Written((engine.id,), (batching.reason,))


def config(name: str, batching: Batching, settings: ServerConfig) -> str:
    """The text of config.json for one model; `base_path` is relative to the file itself."""
    model = {
        "name": name,
        "base_path": name,
        "target_device": "CPU",
        "nireq": batching.instances,
        "plugin_config": dict(settings),
    }
    return json.dumps({"model_config_list": [{"config": model}]}, indent=2) + "\n"


def _write(release: Release, engine: EngineRecord, batching: Batching, folder: Path) -> None:
    version = folder / release.name / VERSION
    version.mkdir(parents=True)
    for name, file in zip(_FILES, engine.files, strict=True):
        (version / name).write_bytes(release.read(file))
    served = served_model(release, by_runtime=False)
    settings = target_class(engine.target).model_server_config(batching.instances, batching.threads)
    assert settings is not None, "others are not chosen"
    probe = golden_probe(release, engine, served, _write_goldens(served, folder))
    texts = {
        "config.json": config(release.name, batching, settings),
        "probe.json": probe.to_text(),
        "probe.py": shipped("probe.py"),
        "MODEL_CARD.md": model_card(release),
        "sbom.cdx.json": bill_of_materials(release),
        "README.md": _readme(release, engine, batching, served),
    }
    if release.labels:
        texts[LABELS] = "".join(f"{label}\n" for label in release.labels)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _readme(release: Release, engine: EngineRecord, batching: Batching, served: Served) -> str:
    version = str(engine.requires["versions"][target_class(engine.target).library])
    year, number, *_ = version.split(".")
    return render(
        "ovms_readme.md.j2",
        model=release.name,
        engine=engine.id,
        version=version,
        server=f"{year}.{number}",
        image=f"{IMAGE}:{year}.{number}",
        flags=engine.requires.get("cpu_flags", []),
        streams=batching.instances,
        threads=batching.threads,
        reason=batching.reason,
        served=served,
    )


def _write_goldens(served: Served, folder: Path) -> list[str]:
    """The golden request's bytes; returns each input's file."""
    (folder / "golden").mkdir()
    files = []
    for number, given in enumerate(served.inputs):
        # Numbered, for an input's name may be no file's.
        files.append(f"golden/input-{number}")
        asked = np.arange(served.fixed or 1) % len(given.samples)
        (folder / files[-1]).write_bytes(np.ascontiguousarray(given.samples[asked]).tobytes())
    return files


def _choose_engine(release: Release) -> EngineRecord:
    """The fastest engine that the server computes as it was proved.

    Raises:
        UsageError: there is none.
    """
    engines = [engine for engine in release.engines if _is_served(engine.target)]
    if not engines:
        families = " or ".join(name for name in TARGETS if _is_served(name))
        reasons = "; ".join(f"{engine.id}: {_why_not(engine)}" for engine in release.engines)
        raise UsageError(f"no engine to serve ({reasons}); export it with --target {families}")
    return min(engines, key=p50_of)


def _is_served(target: str) -> bool:
    return target_class(target).model_server_config(1, 1) is not None


def _why_not(engine: EngineRecord) -> str:
    library = target_class(engine.target).library
    if engine.files[0].path.endswith(".onnx"):
        return f"proved with {library}, and the server would compute its ONNX file with OpenVINO"
    return f"OpenVINO does not load what {library} built"


def _plan(release: Release, engine: EngineRecord) -> Batching:
    """How many streams of how many threads: as one process answered most, which the server is."""
    measured = release.manifest.throughput
    if not isinstance(measured, Skipped):
        alone = tuple(point for point in measured.points if point.processes == 1)
        measured = replace(measured, points=alone)
    declared = release.manifest.model.input.shape[0]
    return plan_batching(
        engine,
        release.manifest.host.threads,
        slo_ms=None,
        limit=declared if isinstance(declared, int) else None,
        measured=measured,
    )
