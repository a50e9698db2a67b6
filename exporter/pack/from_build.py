"""A release from a build: nothing untrained, nothing that failed a gate or changed since.

Each engine that runs here answers the goldens, and its answers are packed with them: a server
compares an engine with itself, and only other kernels' rounding is tolerated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import exporter
from exporter.artifact import ModelSpec, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.records import EngineRecord, Manifest
from exporter.errors import InputError, NotReproducedError, UsageError, unknown_name
from exporter.images.pixels import recover_pixels
from exporter.models.class_names import class_names
from exporter.pack.gate import without_flips
from exporter.pack.packable import Release
from exporter.pack.packed_manifest import SCHEMA, Answers, Bundle, GoldenFile, LeftOut
from exporter.pack.tolerances import allowed_when_validated, tolerance
from exporter.progress import Progress
from exporter.prove.outputs import parts_of
from exporter.runtime.description import GOLDEN
from exporter.runtime.errors import ServingError
from exporter.runtime.goldens import Goldens, answers_to, goldens_in, worst_error
from exporter.runtime.layout import Layout, layout_of
from exporter.runtime.loading import open_engine
from exporter.runtime.outputs import columns


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
        NotReproducedError: an engine that runs here no longer answers as it was validated.
    """
    manifest = manifests.read(build)
    model = manifest.model
    _check_trained(model, allow_untrained)
    chosen, left_out = _choose(manifest, engines)
    goldens = _goldens(build, model)
    scores = _scores(model, goldens)
    names = _labels(labels, model, 0 if scores is None else scores.shape[1])
    notes = []
    if labels is None and model.weights.classes is None and names:
        notes.append("no --labels were given: the classes are named by their number")
    if goldens.images is None:
        notes.append("the goldens came from no 8-bit images, so they are kept as tensors only")
    bundle = Bundle(
        schema=SCHEMA,
        version=exporter.__version__,
        answers=Answers.FEATURES if scores is None else _kind_of(scores),
        goldens=GoldenFile(GOLDEN, len(goldens.inputs)),
        tolerances={engine.id: tolerance(engine, ran=False) for engine in chosen},
        left_out=left_out,
    )
    packed = without_flips(manifest.only(chosen))
    release = Release(build, packed, bundle, goldens, names, tuple(notes))
    return _with_answers(release, progress)


def _check_trained(model: ModelSpec, allow_untrained: bool) -> None:
    if not model.weights.trained and not allow_untrained:
        raise UsageError(
            f"{model.name} has untrained weights ({model.weights.source}), so its "
            "answers mean nothing; export it with --weights, or pack it with --allow-untrained"
        )


def _choose(
    manifest: Manifest, wanted: Sequence[str]
) -> tuple[tuple[EngineRecord, ...], tuple[LeftOut, ...]]:
    """The engines to pack, and those left out with the reason."""
    reasons = {engine.id: _why_not_packed(engine) for engine in manifest.engines}
    reasons |= {
        failed.id: f"it is not there, {failed.stage} failed: {failed.reason}"
        for failed in manifest.failed_engines
    }
    for name in wanted:
        if name not in reasons:
            raise unknown_name("engine", name, reasons)
        if reasons[name]:
            raise UsageError(f"engine {name} cannot be packed: {reasons[name]}")
    if wanted:
        reasons = {name: None if name in wanted else "not asked for" for name in reasons}
    chosen = tuple(engine for engine in manifest.engines if reasons[engine.id] is None)
    left_out = tuple(LeftOut(name, reason) for name, reason in reasons.items() if reason)
    if not chosen:
        said = "; ".join(f"{engine.id}: {engine.skipped}" for engine in left_out)
        raise UsageError(f"the build has no engine to pack ({said or 'it has none'})")
    return chosen, left_out


def _why_not_packed(engine: EngineRecord) -> str | None:
    if engine.rejected:
        return "it was rejected when it was built"
    if isinstance(engine.parity, Skipped):
        return f"its parity was not checked: {engine.parity.skipped}"
    return None if engine.parity.passed else "its parity check failed"


def _goldens(build: Path, model: ModelSpec) -> Goldens:
    path = build / GOLDEN
    try:
        found = goldens_in(path)
    except ValueError as error:
        raise InputError(f"{path} cannot be used ({error}); export the model again") from None
    inputs, images = found.inputs, found.images
    known = model.preprocessing
    if images is None and inputs.dtype == np.uint8:
        images = _as_images(inputs)
    elif images is None and not isinstance(known, Skipped):
        images = recover_pixels(inputs, known)
    return replace(found, outputs=found.outputs.astype(np.float32), images=images, answers={})


def _as_images(inputs: np.ndarray) -> np.ndarray | None:
    """(N, C, H, W) or (N, H, W, C) pixels -> (N, H, W, C) images; None: neither RGB nor grey."""
    if layout_of(inputs.shape[1:]) is Layout.NCHW:
        inputs = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1))
    return inputs if inputs.shape[-1] in (1, 3) else None


def _scores(model: ModelSpec, goldens: Goldens) -> np.ndarray | None:
    """(N, classes) of the goldens' answers; None: the network answers no scores of classes."""
    if model.scores is None:
        return None
    outputs = parts_of(model)
    place = list(columns(outputs))[model.scores] if outputs else slice(None)
    found: np.ndarray = goldens.outputs[:, place]
    return found


def _labels(path: Path | None, model: ModelSpec, count: int) -> tuple[str, ...]:
    """A name for each class: the user's, those of published weights, else its number."""
    if path is not None and not count:
        raise UsageError(
            f"--labels {path}: {model.name} answers no scores of classes; leave it out"
        )
    if path is None:
        known = class_names(model.weights.classes) if model.weights.classes else ()
        return known if len(known) == count else tuple(map(str, range(count)))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # some editors begin with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read --labels {path}: {error}") from None
    if len(lines) != count or not all(line.strip() for line in lines):
        raise InputError(
            f"--labels {path} has {len(lines)} lines, the model {count} classes; "
            "give one label a line, none empty"
        )
    return tuple(line.strip() for line in lines)


def _kind_of(outputs: np.ndarray) -> Answers:
    sums = outputs.astype(np.float64).sum(axis=1)
    is_distribution = outputs.min() >= 0 and bool((np.abs(sums - 1) < 1e-3).all())
    return Answers.PROBABILITIES if is_distribution else Answers.LOGITS


def _with_answers(release: Release, progress: Progress) -> Release:
    """The release with the answers of every engine that runs here, each judged against them."""
    answers, tolerances = {}, dict(release.bundle.tolerances)
    with progress.stage("ask the goldens", len(release.engines)) as advance:
        for engine in release.engines:
            if release.runs_here(engine.id):
                answers[engine.id] = _answers(release, engine)
                tolerances[engine.id] = tolerance(engine, ran=True)
            advance(1)
    return replace(
        release,
        goldens=replace(release.goldens, answers=answers),
        bundle=replace(release.bundle, tolerances=tolerances),
    )


def _answers(release: Release, engine: EngineRecord) -> np.ndarray:
    """(N, classes): what the engine answers to the goldens here.

    Raises:
        NotReproducedError: it does not load, or is further from the reference than when it was
            validated.
    """
    description = release.description
    served = next(entry for entry in description.engines if entry.id == engine.id)
    contents = [release.read(file) for file in engine.files]
    try:
        with open_engine(served, description, release.labels, contents) as opened:
            answers = answers_to(opened, release.goldens)
    except ServingError as failure:
        raise NotReproducedError(f"{engine.id} cannot be packed: {failure}") from None
    error = worst_error(answers, release.goldens.outputs, description.outputs)
    allowed = allowed_when_validated(engine)
    if not error <= allowed:
        raise NotReproducedError(
            f"{engine.id} is off by {error:.3g} on a golden input, at most {allowed:.3g} fits "
            "what was validated; export the model again on this machine"
        )
    return answers
