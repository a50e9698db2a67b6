"""An engine's answers beside the reference's, image by image: what the release gate counts.

The images go by once, a batch at a time, and of each only the answered classes and margins are
kept: memory does not grow with the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.artifact import Skipped
from exporter.errors import BuildError, InputError
from exporter.images.labelled import LabelledImages, Read
from exporter.progress import Advance
from exporter.prove.answers import Floats, top1_margins
from exporter.prove.bounds import rate_at_least, rate_at_most
from exporter.prove.gate_record import UNLABELLED, Decision, Decoders, GatedEngine, GateFlip
from exporter.prove.release_gate import Counts, Limits, decide, drop_between, more_images

Array = npt.NDArray[Any]
Classes = npt.NDArray[np.int64]
Scores = Callable[[Array], Floats]
"""A batch of inputs -> (N, classes)."""

NO_ANSWER: Final = -1
"""The class of an answer that is not finite, or of no answer: no model has it, so it is a flip."""
OPENCV: Final = "opencv"
"""The reference itself, asked with pictures that OpenCV has decoded and resized."""
FLIPS_SHOWN: Final = 12
"""Of each engine, those with the widest margins."""


@dataclass(frozen=True)
class Answered:
    """What was answered to the images that could be read."""

    images: Classes
    """Their places among all."""
    reference: Classes
    gaps: Floats
    """By how much the reference prefers its first class to its second."""
    engines: Mapping[str, tuple[Classes, Floats]]
    """Each engine's classes, and by how much the reference prefers its own to those; OPENCV's too,
    where the pictures can go through it."""
    unreadable: tuple[str, ...]
    broken: Mapping[str, str]
    """Each engine that gave no answers, and why."""


def ask_all(
    images: LabelledImages,
    reference: Scores,
    engines: Mapping[str, Scores],
    batch: int,
    advance: Advance,
) -> Answered:
    """Asks the reference and every engine each image, and the reference once more with OpenCV's.

    Raises:
        InputError: no image can be decoded.
        BuildError: the reference does not run, or its answers are not finite.
    """
    unreadable: list[str] = []
    places: list[int] = []
    wanted, gaps = [], []
    names = [*engines, *([] if isinstance(images.read_with_opencv, Skipped) else [OPENCV])]
    found: dict[str, list[tuple[Classes, Floats]]] = {name: [] for name in names}
    broken: dict[str, str] = {}
    for chosen, inputs in _batches(images, batch, unreadable, advance):
        expected = reference(inputs)
        if not np.isfinite(expected).all():
            raise BuildError(f"the reference's answer to {images.names[chosen[0]]} is not finite")
        places += chosen
        classes = expected.argmax(axis=1)
        wanted.append(classes)
        gaps.append(top1_margins(expected))
        for name, run in engines.items():
            if name not in broken:
                try:
                    found[name].append(against(run(inputs), expected, classes))
                except BuildError as error:
                    broken[name] = str(error)
        if not isinstance(images.read_with_opencv, Skipped):
            scores = _through(images.read_with_opencv, chosen, reference, expected)
            found[OPENCV].append(against(scores, expected, classes))
    if not places:
        raise InputError(f"no image can be decoded: {unreadable[0]}")
    return Answered(
        images=np.array(places),
        reference=np.concatenate(wanted),
        gaps=np.concatenate(gaps),
        engines={
            name: (np.concatenate([one for one, _ in parts]), np.concatenate([m for _, m in parts]))
            for name, parts in found.items()
            if name not in broken
        },
        unreadable=tuple(unreadable),
        broken=broken,
    )


def _through(read: Read, places: list[int], reference: Scores, expected: Floats) -> Floats:
    """The reference's answers to the images as `read` has them; NaN where it cannot."""
    inputs: dict[int, Array] = {}
    for row, place in enumerate(places):
        with suppress(InputError):
            inputs[row] = read(place)
    scores = np.full_like(expected, np.nan)
    if inputs:
        scores[list(inputs)] = reference(np.stack(list(inputs.values())))
    return scores


def _batches(
    images: LabelledImages, size: int, unreadable: list[str], advance: Advance
) -> Iterator[tuple[list[int], Array]]:
    """The images that can be decoded, with their places; what is wrong with the others is kept."""
    places: list[int] = []
    inputs: list[Array] = []
    for place in range(len(images.names)):
        try:
            inputs.append(images.read(place))
            places.append(place)
        except InputError as error:
            unreadable.append(str(error))
        advance(1)
        if len(inputs) == size:
            yield places, np.stack(inputs)
            places, inputs = [], []
    if inputs:
        yield places, np.stack(inputs)


def against(scores: Floats, expected: Floats, wanted: Classes) -> tuple[Classes, Floats]:
    """An engine's classes for a batch, and by how much the reference prefers its own to those.

    Raises:
        BuildError: the answers have another shape than the reference's.
    """
    if scores.shape != expected.shape:
        raise BuildError(
            f"the engine answers with shape {scores.shape}, the reference with {expected.shape}"
        )
    rows = np.arange(len(scores))
    finite = np.isfinite(scores).all(axis=1)
    answers = np.where(finite, np.where(np.isfinite(scores), scores, 0.0).argmax(axis=1), wanted)
    margins: Floats = expected[rows, wanted] - expected[rows, answers]
    return np.where(finite, answers, NO_ANSWER), margins


def count(
    answered: Answered, engine: str, near_tie: float, labels: Classes | None
) -> tuple[Counts, npt.NDArray[np.bool_]]:
    """What became of the reference's answers, and which images are flips.

    An image that the reference prefers its first class on by no more than `near_tie` is no flip.
    """
    answers, wanted = answered.engines[engine][0], answered.reference
    tied = answered.gaps <= near_tie
    flipped = (answers != wanted) & ~tied
    lost = gained = np.zeros(len(wanted), bool)
    if labels is not None:
        lost, gained = (
            (wanted == labels) & (answers != labels),
            (wanted != labels) & (answers == labels),
        )
    counts = Counts(
        kept=int((~tied & ~flipped).sum()),
        flipped=int((flipped & ~lost & ~gained).sum()),
        flipped_lost=int((flipped & lost).sum()),
        flipped_gained=int((flipped & gained).sum()),
        tied=int((tied & ~lost & ~gained).sum()),
        tied_lost=int((tied & lost).sum()),
        tied_gained=int((tied & gained).sum()),
    )
    return counts, flipped


def judge(
    answered: Answered,
    engine: str,
    images: LabelledImages,
    classes: tuple[str, ...],
    near_tie: float,
    limits: Limits,
) -> GatedEngine:
    """One engine's decision with the counts, the bounds and the flips behind it."""
    answers = answered.engines[engine][0]
    labels = _labels(answered, images)
    counts, flipped = count(answered, engine, near_tie, labels)
    decision = decide(counts, limits, labels is not None)
    undecided = decision is Decision.UNDECIDED
    low, high = drop_between(counts.lost, counts.gained, counts.images, limits.confidence)
    labelled = labels is not None
    return GatedEngine(
        id=engine,
        decision=decision,
        judged=counts.judged,
        near_ties=counts.near_ties,
        flips=counts.flips,
        flips_at_least=rate_at_least(counts.flips, counts.judged, limits.confidence),
        flips_at_most=rate_at_most(counts.flips, counts.judged, limits.confidence),
        lost=counts.lost if labelled else UNLABELLED,
        gained=counts.gained if labelled else UNLABELLED,
        top1=float((answers == labels).mean()) if labelled else UNLABELLED,
        top1_reference=float((answered.reference == labels).mean()) if labelled else UNLABELLED,
        drop_at_least=low if labelled else UNLABELLED,
        drop_at_most=high if labelled else UNLABELLED,
        more_images=more_images(counts, limits, labelled) if undecided else None,
        flipped=_shown(answered, engine, flipped, images, classes),
    )


def judge_decoders(
    answered: Answered,
    images: LabelledImages,
    classes: tuple[str, ...],
    near_tie: float,
    in_words: tuple[str, str],
) -> Decoders:
    """What OpenCV's pictures change of the reference's answers; `in_words`: Pillow's and OpenCV's.

    The model's own error has no part in it: both answers are the reference's.
    """
    answers = answered.engines[OPENCV][0]
    labels = _labels(answered, images)
    counts, flipped = count(answered, OPENCV, near_tie, labels)
    return Decoders(
        contract=in_words[0],
        other=in_words[1],
        judged=counts.judged,
        near_ties=counts.near_ties,
        flips=counts.flips,
        top1=UNLABELLED if labels is None else float((answered.reference == labels).mean()),
        top1_other=UNLABELLED if labels is None else float((answers == labels).mean()),
        flipped=_shown(answered, OPENCV, flipped, images, classes),
    )


def _labels(answered: Answered, images: LabelledImages) -> Classes | None:
    return None if images.labels is None else images.labels[answered.images]


def _shown(
    answered: Answered,
    engine: str,
    flipped: npt.NDArray[np.bool_],
    images: LabelledImages,
    classes: tuple[str, ...],
) -> tuple[GateFlip, ...]:
    """The flips with the widest margins."""
    answers, margins = answered.engines[engine]
    labels = _labels(answered, images)
    rows = sorted(np.flatnonzero(flipped), key=lambda row: -margins[row])[:FLIPS_SHOWN]
    return tuple(
        GateFlip(
            image=images.names[answered.images[row]],
            reference=classes[answered.reference[row]],
            engine="no answer" if answers[row] == NO_ANSWER else classes[answers[row]],
            label="" if labels is None else classes[labels[row]],
            margin=float(margins[row]),
            thumbnail=images.thumbnail(int(answered.images[row])),
        )
        for row in rows
    )
