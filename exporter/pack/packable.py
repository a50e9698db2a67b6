"""What a packed artifact is made of: the engines of a build that may leave it, and goldens.

Every format starts here, so that none can pack what is untrained, failed a gate, or changed since
it was validated. Each engine that runs here answers the goldens, and its answers are packed with
them: a server compares an engine with itself, and only other kernels' rounding is tolerated.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

import exporter
from exporter.artifact import REJECTED
from exporter.builds import manifest as manifests
from exporter.errors import GateError, InputError, UsageError, unknown_name
from exporter.images.pixels import recover_pixels
from exporter.progress import Progress
from exporter.runtime.choice import why_not
from exporter.runtime.description import GOLDEN, MANIFEST, Description, read_description
from exporter.runtime.errors import ServingError
from exporter.runtime.goldens import ANSWERS, Goldens, answers_to, read_arrays, worst_error
from exporter.runtime.loading import open_engine

# Other kernels for the same graph round differently; measured between ONNX Runtime's CPUs, its
# WebAssembly build and OpenVINO (tests/serving). Relative L2 of one golden's answer.
ROUNDING: Final[Mapping[str, float]] = {"fp32": 1e-5, "fp16": 5e-3, "int8": 3e-2}
_WORST_GOLDEN: Final = 4
"""Parity limits bound the error over all samples together; a single one may be so much worse."""


@dataclass(frozen=True)
class Release:
    """The engines of one build that are packed, with what proves them."""

    build: Path
    manifest: Mapping[str, Any]
    """Of the bundle: the build's, with the chosen engines alone and a `bundle` entry."""
    goldens: Goldens
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    """What the user must be told, a sentence each."""

    @property
    def name(self) -> str:
        return str(self.manifest["model"]["name"])

    @property
    def engines(self) -> list[dict[str, Any]]:
        chosen: list[dict[str, Any]] = self.manifest["engines"]
        return chosen

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(entry["id"] for entry in self.engines)

    @property
    def description(self) -> Description:
        return read_description(json.dumps(self.manifest).encode())

    def runs_here(self, engine: str) -> bool:
        """Whether `exporter.runtime` can run an engine on this machine."""
        entries = {entry.id: entry for entry in self.description.engines}
        return why_not(entries[engine], "auto") is None

    def read(self, file: Mapping[str, Any]) -> bytes:
        """The contents of an engine's file (an entry of its `files`), checked by hash.

        Raises:
            InputError: it is missing, or not the file that was validated.
        """
        path = self.build / str(file["path"])
        try:
            contents = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; export it again") from None
        if hashlib.sha256(contents).hexdigest() != file["sha256"]:
            raise InputError(f"{path} is not the file that was validated; export the model again")
        return contents

    def golden_file(self) -> bytes:
        """golden.npz: inputs, outputs and, where they came from images, the images."""
        arrays = {"inputs": self.goldens.inputs, "outputs": self.goldens.outputs}
        if self.goldens.images is not None:
            arrays["images"] = self.goldens.images
        for entry in self.engines:
            if entry["id"] in self.goldens.answers:
                arrays[f"{ANSWERS}{entry['id']}"] = self.goldens.answers[entry["id"]]
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()


def open_release(
    build: Path,
    *,
    engines: Sequence[str] = (),
    labels: Path | None = None,
    allow_untrained: bool = False,
    progress: Progress,
) -> Release:
    """Takes the engines named (default: all that passed) from a build and asks them its goldens.

    Raises:
        UsageError: an engine that is not there or must not leave, or untrained weights.
        InputError: no build, or its files are unusable or were changed.
        GateError: an engine that runs here no longer answers as it was validated.
    """
    manifest = manifests.to_json(manifests.read(build))
    _check_trained(manifest, allow_untrained)
    chosen, left_out = _choose(manifest, engines)
    goldens = _goldens(build, manifest)
    names = _labels(labels, goldens.outputs.shape[1])
    notes = []
    if labels is None:
        notes.append("no --labels were given: the classes are named by their number")
    if goldens.images is None:
        notes.append("the goldens came from no 8-bit images, so they are kept as tensors only")
    packed = {
        **manifest,
        "engines": chosen,
        "bundle": {
            "schema": 1,
            "version": exporter.__version__,
            "answers": _kind_of(goldens.outputs),
            "goldens": {"path": GOLDEN, "samples": len(goldens.inputs)},
            "tolerances": {entry["id"]: _tolerance(entry, ran=False) for entry in chosen},
            "left_out": left_out,
        },
    }
    release = Release(build, packed, goldens, names, tuple(notes))
    answers = {}
    with progress.stage("ask the goldens", len(chosen)) as advance:
        for entry in chosen:
            if release.runs_here(entry["id"]):
                answers[entry["id"]] = _answers(release, entry)
                packed["bundle"]["tolerances"][entry["id"]] = _tolerance(entry, ran=True)
            advance(1)
    return replace(release, goldens=replace(goldens, answers=answers))


def _check_trained(manifest: Mapping[str, Any], allow_untrained: bool) -> None:
    weights = manifest["model"]["weights"]
    if not weights["trained"] and not allow_untrained:
        raise UsageError(
            f"{manifest['model']['name']} has untrained weights ({weights['source']}), so its "
            "answers mean nothing; export it with --weights, or pack it with --allow-untrained"
        )


def _choose(
    manifest: Mapping[str, Any], wanted: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The engines to pack, and those left out with the reason."""
    entries = {entry["id"]: entry for entry in manifest["engines"]}
    for name in wanted:
        if name not in entries:
            raise unknown_name("engine", name, entries)
    chosen, left_out = [], []
    for name, entry in entries.items():
        reason = _why_not_packed(entry)
        if wanted and name not in wanted:
            reason = "not asked for"
        elif wanted and reason:
            raise UsageError(f"engine {name} cannot be packed: {reason}")
        if reason:
            left_out.append({"id": name, "skipped": reason})
        else:
            chosen.append(dict(entry))
    if not chosen:
        reasons = "; ".join(f"{entry['id']}: {entry['skipped']}" for entry in left_out)
        raise UsageError(f"the build has no engine to pack ({reasons or 'it has none'})")
    return chosen, left_out


def _why_not_packed(entry: Mapping[str, Any]) -> str | None:
    if entry["path"].endswith(REJECTED):
        return "it was rejected when it was built"
    if "skipped" in entry["parity"]:
        return f"its parity was not checked: {entry['parity']['skipped']}"
    return None if entry["parity"]["passed"] else "its parity check failed"


def _goldens(build: Path, manifest: Mapping[str, Any]) -> Goldens:
    path = build / GOLDEN
    try:
        arrays = read_arrays(path)
        inputs, outputs = arrays["inputs"], arrays["outputs"]
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}); export the model again") from None
    images = arrays.get("images")
    preprocessing = manifest["model"]["preprocessing"]
    if images is None and "skipped" not in preprocessing:
        if inputs.dtype == np.uint8:
            images = inputs
        else:
            images = recover_pixels(inputs, preprocessing["mean"], preprocessing["std"])
    return Goldens(inputs, outputs.reshape(len(outputs), -1).astype(np.float32), images, {})


def _labels(path: Path | None, count: int) -> tuple[str, ...]:
    if path is None:
        return tuple(map(str, range(count)))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read --labels {path}: {error}") from None
    if len(lines) != count or not all(line.strip() for line in lines):
        raise InputError(
            f"--labels {path} has {len(lines)} lines, the model {count} classes; "
            "give one label a line, none empty"
        )
    return tuple(line.strip() for line in lines)


def _kind_of(outputs: np.ndarray) -> str:
    sums = outputs.astype(np.float64).sum(axis=1)
    is_distribution = outputs.min() >= 0 and bool((np.abs(sums - 1) < 1e-3).all())
    return "probabilities" if is_distribution else "logits"


def _limit(entry: Mapping[str, Any]) -> float:
    """The relative L2 error against the reference that the engine was allowed when validated."""
    limits = entry["parity"]["limits"]
    return float(limits["rel_l2"] if "rel_l2" in limits else 10 ** (-limits["sqnr_db"] / 20))


def reference_tolerance(entry: Mapping[str, Any]) -> float:
    """How far from the reference an engine's answer to one golden may be, wherever it is served."""
    return _WORST_GOLDEN * _limit(entry) + ROUNDING[entry["precision"]]


def _tolerance(entry: Mapping[str, Any], *, ran: bool) -> dict[str, Any]:
    """What the answer to any golden may be off by, and from what, once the engine is served."""
    if ran:
        return {"against": "engine", "rel_l2": ROUNDING[entry["precision"]]}
    return {"against": "reference", "rel_l2": reference_tolerance(entry)}


def _answers(release: Release, entry: Mapping[str, Any]) -> np.ndarray:
    """(N, classes): what the engine answers to the goldens here.

    Raises:
        GateError: it does not load, or is further from the reference than when it was validated.
    """
    description = release.description
    served = next(engine for engine in description.engines if engine.id == entry["id"])
    contents = [release.read(file) for file in entry["files"]]
    try:
        with open_engine(served, description, release.labels, contents) as engine:
            answers = answers_to(engine, release.goldens)
    except ServingError as failure:
        raise GateError(f"{entry['id']} cannot be packed: {failure}") from None
    error = worst_error(answers, release.goldens.outputs)
    allowed = _WORST_GOLDEN * _limit(entry)
    if not error <= allowed:
        raise GateError(
            f"{entry['id']} is off by {error:.3g} on a golden input, at most {allowed:.3g} fits "
            "what was validated; export the model again on this machine"
        )
    return answers


def with_engine(release: Release, engine: str) -> Release:
    """The release with one of its engines alone."""
    chosen = [entry for entry in release.engines if entry["id"] == engine]
    others = [
        {"id": entry["id"], "skipped": "not asked for"}
        for entry in release.engines
        if entry["id"] != engine
    ]
    bundle = dict(release.manifest["bundle"])
    bundle["tolerances"] = {engine: bundle["tolerances"][engine]}
    bundle["left_out"] = [*bundle["left_out"], *others]
    return replace(release, manifest={**release.manifest, "engines": chosen, "bundle": bundle})


def manifest_file(release: Release) -> tuple[str, str]:
    """The name and the text of the bundle's manifest."""
    text = json.dumps(manifests.plain(release.manifest), indent=1, ensure_ascii=False)
    return MANIFEST, f"{text}\n"
