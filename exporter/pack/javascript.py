"""The npm package for Node.js and the folder for the browser: an ONNX engine that proves itself in
JavaScript as `exporter.runtime` does in Python, on the same goldens.

    model.onnx      the engine             goldens.bin     inputs and the engine's answers
    model.json      the contract           classifier.js   checks, loads, classifies
    index.js        `load`                 index.d.ts      its types
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from exporter.artifact import Channels, Skipped
from exporter.builds.records import EngineRecord
from exporter.errors import UsageError
from exporter.pack.checksums import write_sums
from exporter.pack.destination import packed_folder
from exporter.pack.model_card import model_card
from exporter.pack.packable import Release, Written, p50_of, with_engine
from exporter.pack.request import PackRequest
from exporter.pack.sbom import bill_of_materials
from exporter.pack.template_files import render, shipped
from exporter.prove.outputs import parts_of
from exporter.runtime.layout import height_width_channels, layout_of
from exporter.runtime.outputs import Output
from exporter.targets import TARGETS, MachineKind, Target, target_class

ONNXRUNTIME_JS: Final = "^1.30.0"
"""Of onnxruntime-node and onnxruntime-web: what the engines were tested with, or later."""


@dataclass(frozen=True)
class Platform:
    """Where JavaScript runs."""

    index: str
    """The shipped file that becomes index.js."""
    dependency: str
    """The npm package of the runtime."""
    readme: str
    advice: str
    """What the user does with the folder."""
    more: tuple[str, ...] = ()
    """Further shipped files."""
    decodes: bool = False
    """It opens pictures itself, and a browser turns every one upright."""


NODE: Final = Platform(
    index="node.js",
    dependency="onnxruntime-node",
    readme="node_readme.md.j2",
    advice="run `npm install --ignore-scripts` in it: the install script would fetch GPU parts",
)
WEB: Final = Platform(
    index="web.js",
    dependency="onnxruntime-web",
    readme="web_readme.md.j2",
    advice="run `npm install --ignore-scripts` in it, then serve it with any static server",
    more=("index.html", "demo.js", "demo.css"),
    decodes=True,
)


def _pack(
    platform: Platform,
    release: Release,
    request: PackRequest,  # noqa: ARG001
    out: Path,
) -> Written:
    """Writes a package, whole or not at all.

    Raises:
        UsageError: the build has no engine that ONNX Runtime runs on CPUs, or its pictures are
            taken as they are stored, which the platform does not do.
    """
    known = release.manifest.model.preprocessing
    if platform.decodes and not (isinstance(known, Skipped) or known.exif_orientation):
        raise UsageError(
            f"{release.name} takes pictures as they are stored (--no-exif-orientation), and a "
            "browser turns every one upright; pack it as node, where the program decodes them"
        )
    with packed_folder(out) as folder:
        engine = write_javascript(release, folder, platform)
    return Written((engine,), (platform.advice,))


pack_node: Final = partial(_pack, NODE)
pack_web: Final = partial(_pack, WEB)


def write_javascript(release: Release, folder: Path, platform: Platform) -> str:
    """Writes a package into an empty folder; returns the id of its engine."""
    engine = choose_engine(release)
    alone = with_engine(release, engine)
    (folder / "model.onnx").write_bytes(release.read(engine.files[0]))
    (folder / "goldens.bin").write_bytes(_goldens(release, engine))
    hashes = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("model.onnx", "goldens.bin")
    }
    sources = {name: name for name in ("classifier.js", "index.d.ts", *platform.more)}
    sources["index.js"] = platform.index
    texts = {name: shipped(f"javascript/{source}") for name, source in sources.items()}
    texts["model.json"] = json.dumps(_contract(release, engine, hashes), indent=1) + "\n"
    texts["package.json"] = json.dumps(_package(release, platform.dependency), indent=2) + "\n"
    texts["README.md"] = render(platform.readme, model=release.name, engine=engine.id)
    texts["MODEL_CARD.md"] = model_card(alone)
    texts["sbom.cdx.json"] = bill_of_materials(alone)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    write_sums(folder)
    return engine.id


def choose_engine(release: Release) -> EngineRecord:
    """The fastest ONNX Runtime engine.

    Raises:
        UsageError: there is none, its batch is fixed to something else than one image, or the
            network takes several inputs.
    """
    engines = [engine for engine in release.engines if _runs_in_javascript(engine)]
    if not engines:
        served = " or ".join(name for name in TARGETS if _is_portable(target_class(name)))
        raise UsageError(
            f"JavaScript runs {served} engines, the build has {', '.join(release.ids)}; "
            f"export it with --target {served}"
        )
    model = release.manifest.model
    if model.other_inputs:
        names = ", ".join(given.name for given in model.inputs)
        raise UsageError(
            f"{release.name} takes {len(model.inputs)} inputs ({names}), and the JavaScript "
            "packages take one picture; pack it as bundle, triton or kserve"
        )
    batch = model.input.shape[0]
    if isinstance(batch, int) and batch != 1:
        raise UsageError(
            f"{release.name} has a fixed batch of {batch}, and an image at a time is classified; "
            "export it with a dynamic batch"
        )
    return min(engines, key=p50_of)


def _runs_in_javascript(engine: EngineRecord) -> bool:
    """Whether it is an ONNX file for CPUs of any kind."""
    return _is_portable(target_class(engine.target)) and not engine.requires.get("cpu_flags")


def _is_portable(target: type[Target]) -> bool:
    return target.library == "onnxruntime" and target.runs_on is MachineKind.CPU


def _goldens(release: Release, engine: EngineRecord) -> bytes:
    """For each sample its image (or input), then its answer, little-endian."""
    goldens = release.goldens
    asked = goldens.inputs if goldens.images is None else goldens.images
    answers = goldens.answers.get(engine.id, goldens.outputs).astype("<f4")
    asked = asked.astype(asked.dtype.newbyteorder("<"))
    return b"".join(
        np.ascontiguousarray(sample).tobytes() + answer.tobytes()
        for sample, answer in zip(asked, answers, strict=True)
    )


def _contract(
    release: Release, engine: EngineRecord, hashes: Mapping[str, str]
) -> dict[str, object]:
    """model.json."""
    model, goldens = release.manifest.model, release.goldens
    shape = model.image_shape
    height, width, channels = height_width_channels(shape)
    known = None if isinstance(model.preprocessing, Skipped) else model.preprocessing
    normalised = known is not None and model.input.dtype != "uint8"
    options, fallback = _session_options(engine)
    outputs = parts_of(model) or (Output(model.output.name, (len(release.labels),)),)
    return {
        "name": release.name,
        "engine": engine.id,
        "input": model.input.name,
        "outputs": [{"name": output.name, "shape": output.shape} for output in outputs],
        "scores": model.scores,
        "dtype": model.input.dtype,
        "shape": shape,
        "layout": layout_of(shape),
        "width": width,
        "height": height,
        "labels": release.labels,
        "answers": release.bundle.answers,
        "normalisation": {"mean": known.mean, "std": known.std} if known and normalised else None,
        "resize": known.resize if known else None,
        "exifOrientation": known.exif_orientation if known else True,
        "channels": known.channels if known and normalised else _channels_of(channels),
        "tolerance": release.bundle.tolerances[engine.id].rel_l2,
        "goldens": {"samples": len(goldens.inputs), "images": goldens.images is not None},
        "session": options,
        "sessionWithoutVnni": fallback,
        "files": dict(hashes),
    }


def _channels_of(count: int) -> Channels:
    """Of images that an engine takes as they are."""
    return Channels.GREY if count == 1 else Channels.RGB


def _session_options(engine: EngineRecord) -> tuple[dict[str, object], dict[str, object] | None]:
    """ONNX Runtime's `extra` options in JavaScript: those of a session, and those where the CPU
    lacks VNNI (None: the same). Dots in a key become levels.
    """
    wanted = engine.requires.get("session_options", {})
    flat = dict(wanted.get("config", {}))
    if wanted.get("disabled_optimizers"):
        flat["optimization.disable_specified_optimizers"] = ";".join(wanted["disabled_optimizers"])
    without_vnni = engine.requires.get("session_config_without_vnni")
    return _nested(flat), _nested({**flat, **without_vnni}) if without_vnni else None


def _nested(flat: Mapping[str, str]) -> dict[str, object]:
    levels: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        inner = levels
        for name in path:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return levels


def _package(release: Release, dependency: str) -> dict[str, object]:
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
