"""The npm package for Node.js and the folder for the browser: an ONNX engine that proves itself in
JavaScript as `exporter.runtime` does in Python, on the same goldens.

    model.onnx      the engine             goldens.bin     inputs and the engine's answers
    model.json      the contract           classifier.js   checks, loads, classifies
    index.js        `load`                 index.d.ts      its types
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporter.builds.staging import staged_folder
from exporter.errors import UsageError
from exporter.pack.checksums import write_sums
from exporter.pack.model_card import model_card
from exporter.pack.packable import ROUNDING, PackRequest, Release, reference_tolerance, with_engine
from exporter.pack.sbom import bill_of_materials
from exporter.pack.template_files import render, template
from exporter.runtime.layout import height_width_channels, layout_of

ONNXRUNTIME_JS: Final = "^1.30.0"
"""Of onnxruntime-node and onnxruntime-web: what the engines were tested with, or later."""
DEMO: Final = ("index.html", "demo.js", "demo.css")


def pack_node(
    release: Release,
    request: PackRequest,  # noqa: ARG001
    out: Path,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Writes an npm package for Node.js (`onnxruntime-node`), whole or not at all.

    Raises:
        UsageError: the build has no engine that ONNX Runtime runs on CPUs.
    """
    with staged_folder(out) as folder:
        engine = write_javascript(
            release,
            folder,
            index="node.js",
            dependency="onnxruntime-node",
            readme="node_readme.md.j2",
        )
    return (engine,), (
        "run `npm install --ignore-scripts` in it: the install script would fetch GPU parts",
    )


def pack_web(
    release: Release,
    request: PackRequest,  # noqa: ARG001
    out: Path,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Writes a folder for the browser (`onnxruntime-web`, with a demo page), whole or not at all.

    Raises:
        UsageError: the build has no engine that ONNX Runtime runs on CPUs.
    """
    with staged_folder(out) as folder:
        engine = write_javascript(
            release,
            folder,
            index="web.js",
            dependency="onnxruntime-web",
            readme="web_readme.md.j2",
            extra={name: name for name in DEMO},
        )
    return (engine,), (
        "run `npm install --ignore-scripts` in it, then serve it with any static server",
    )


def write_javascript(
    release: Release,
    folder: Path,
    *,
    index: str,
    dependency: str,
    readme: str,
    extra: Mapping[str, str] | None = None,
) -> str:
    """Writes a package into an empty folder; returns the id of its engine.

    `index` is the template of index.js, `dependency` the npm package of the runtime, `extra` more
    files: their names and templates.
    """
    entry = choose_engine(release)
    alone = with_engine(release, entry["id"])
    (folder / "model.onnx").write_bytes(release.read(entry["files"][0]))
    (folder / "goldens.bin").write_bytes(_goldens(release, entry))
    hashes = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("model.onnx", "goldens.bin")
    }
    names = {"index.js": index, "classifier.js": "classifier.js", "index.d.ts": "index.d.ts.j2"}
    texts = {name: template(f"javascript/{of}") for name, of in (names | dict(extra or {})).items()}
    texts["model.json"] = json.dumps(_contract(release, entry, hashes), indent=1) + "\n"
    texts["package.json"] = json.dumps(_package(release, dependency), indent=2) + "\n"
    texts["README.md"] = render(readme, model=release.name, engine=entry["id"])
    texts["MODEL_CARD.md"] = model_card(alone)
    texts["sbom.cdx.json"] = bill_of_materials(alone)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    write_sums(folder)
    return str(entry["id"])


def choose_engine(release: Release) -> dict[str, Any]:
    """The fastest ONNX Runtime engine.

    Raises:
        UsageError: there is none, or its batch is fixed to something else than one image.
    """
    entries = [entry for entry in release.engines if entry["target"] == "ort-cpu"]
    if not entries:
        found = ", ".join(entry["id"] for entry in release.engines)
        raise UsageError(
            f"JavaScript runs ort-cpu engines, the build has {found}; "
            "export it with --target ort-cpu"
        )
    batch = release.manifest["model"]["input"]["shape"][0]
    if isinstance(batch, int) and batch != 1:
        raise UsageError(
            f"{release.name} has a fixed batch of {batch}, and an image at a time is classified; "
            "export it with a dynamic batch"
        )
    return min(entries, key=lambda entry: entry["latency"].get("p50_ms", math.inf))


def _goldens(release: Release, entry: Mapping[str, Any]) -> bytes:
    """For each sample its image (or input), then its answer, little-endian."""
    goldens = release.goldens
    asked = goldens.inputs if goldens.images is None else goldens.images
    answers = goldens.answers.get(entry["id"], goldens.outputs).astype("<f4")
    asked = asked.astype(asked.dtype.newbyteorder("<"))
    return b"".join(
        np.ascontiguousarray(sample).tobytes() + answer.tobytes()
        for sample, answer in zip(asked, answers, strict=True)
    )


def _contract(
    release: Release, entry: Mapping[str, Any], hashes: Mapping[str, str]
) -> dict[str, Any]:
    """model.json."""
    model, goldens = release.manifest["model"], release.goldens
    shape = model["input"]["shape"][1:]
    height, width, _ = height_width_channels(shape)
    known = "skipped" not in model["preprocessing"]
    preprocessing = model["preprocessing"] if known else {}
    normalised = known and model["input"]["dtype"] != "uint8"
    ran = entry["id"] in goldens.answers
    options, fallback = _session_options(entry["requires"])
    return {
        "name": release.name,
        "engine": entry["id"],
        "input": model["input"]["name"],
        "output": model["output"]["name"],
        "dtype": model["input"]["dtype"],
        "shape": shape,
        "layout": layout_of(shape),
        "width": width,
        "height": height,
        "classes": len(release.labels),
        "labels": list(release.labels),
        "answers": release.manifest["bundle"]["answers"],
        "normalisation": {key: preprocessing[key] for key in ("mean", "std")}
        if normalised
        else None,
        "resize": preprocessing.get("resize"),
        "tolerance": ROUNDING[entry["precision"]] if ran else reference_tolerance(entry),
        "goldens": {"samples": len(goldens.inputs), "images": goldens.images is not None},
        "session": options,
        "sessionWithoutVnni": fallback,
        "files": dict(hashes),
    }


def _session_options(requires: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """ONNX Runtime's `extra` options in JavaScript: those of a session, and those where the CPU
    lacks VNNI (None: the same). Dots in a key become levels.
    """
    wanted = requires.get("session_options", {})
    flat = dict(wanted.get("config", {}))
    if wanted.get("disabled_optimizers"):
        flat["optimization.disable_specified_optimizers"] = ";".join(wanted["disabled_optimizers"])
    without_vnni = requires.get("session_config_without_vnni")
    return _nested(flat), _nested({**flat, **without_vnni}) if without_vnni else None


def _nested(flat: Mapping[str, str]) -> dict[str, Any]:
    levels: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        inner = levels
        for name in path:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return levels


def _package(release: Release, dependency: str) -> dict[str, Any]:
    """package.json. npm's names are small letters, digits and hyphens."""
    name = re.sub(r"[^a-z0-9-]+", "-", release.name.lower()).strip("-") or "model"
    return {
        "name": f"{name}-{dependency.removeprefix('onnxruntime-')}",
        "version": "1.0.0",
        "private": True,
        "description": f"{release.name}, an image classifier that proves itself at load",
        "type": "module",
        "main": "index.js",
        "types": "index.d.ts",
        "exports": {".": {"types": "./index.d.ts", "default": "./index.js"}},
        "engines": {"node": ">=20"},
        "dependencies": {dependency: ONNXRUNTIME_JS},
    }
