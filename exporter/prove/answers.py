"""Which answers of an engine are another class than the reference's, and what that proves.

A flip is an input whose top-1 differs, near-ties left out (docs/decisions/0003). Its margin is by
how much the reference prefers its own class to the engine's: healthy quantization changes answers
of small margins, a fault those of any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.artifact import Skipped
from exporter.prove.bounds import agreement_at_most, drop_at_least
from exporter.prove.certificate import Flip

Floats = npt.NDArray[np.float64]

FLIPS_LISTED: Final = 16
"""A certificate lists so many flips, those with the widest margins."""


@dataclass(frozen=True)
class Answers:
    """The classes that an engine answers, against the reference's."""

    judged: int
    """Inputs that are no near-ties."""
    flips: int
    near_ties: int
    flipped: tuple[Flip, ...]
    """The widest margin first, FLIPS_LISTED at most."""
    median_margin: float
    labelled: Labelled | Skipped

    @property
    def agreement(self) -> float:
        """The share of the judged inputs that get the reference's class."""
        return 1.0 - self.flips / max(1, self.judged)

    @property
    def agreement_at_most(self) -> float:
        """Its exact 95 % upper bound."""
        return agreement_at_most(self.flips, self.judged)

    @property
    def drop_at_least(self) -> float | Skipped:
        """The exact 95 % lower bound of the accuracy that is lost against labels."""
        found = self.labelled
        if isinstance(found, Skipped):
            return found
        return drop_at_least(found.lost, found.gained, found.samples)

    def labels_decide(self, limits: Mapping[str, float]) -> bool:
        """Whether there are labels that an engine could fail by.

        There are none where the reference itself answers next to nothing as labelled, as with the
        labels of another network's classes: an engine that lost it all would still keep the limit.
        """
        found = self.labelled
        if isinstance(found, Skipped) or "top1_drop" not in limits:
            return False
        return drop_at_least(found.known, 0, found.samples) > limits["top1_drop"]

    @property
    def in_words(self) -> str:
        """The counts behind a bound."""
        words = f"95 % bound; {self.flips} flips in {self.judged} inputs"
        if isinstance(self.labelled, Labelled):
            words += f", {self.labelled.lost} right answers lost and {self.labelled.gained} gained"
        if self.flipped:
            words += f", margins up to {self.flipped[0].margin:.3g}"
        return words


@dataclass(frozen=True)
class Labelled:
    """Right and wrong answers, where the inputs have labels."""

    samples: int
    known: int
    """Inputs that the reference answers as labelled."""
    lost: int
    """Of these, the ones that the engine does not."""
    gained: int
    """Inputs that the engine alone answers as labelled."""


def compare_answers(
    outputs: Floats, expected: Floats, *, near_tie: float, labels: npt.NDArray[Any] | None
) -> Answers:
    """Of outputs (N, classes) against the reference's.

    Inputs on which the reference prefers its first class to its second by no more than `near_tie`
    are judged by nothing.
    """
    classes, wanted = outputs.argmax(axis=1), expected.argmax(axis=1)
    margins = top1_margins(expected)
    tied = margins <= near_tie
    flipped = np.flatnonzero((classes != wanted) & ~tied)
    rows = [
        Flip(
            input=int(row),
            reference=int(wanted[row]),
            engine=int(classes[row]),
            margin=float(expected[row, wanted[row]] - expected[row, classes[row]]),
        )
        for row in flipped
    ]
    rows.sort(key=lambda flip: -flip.margin)
    return Answers(
        judged=int((~tied).sum()),
        flips=len(flipped),
        near_ties=int(tied.sum()),
        flipped=tuple(rows[:FLIPS_LISTED]),
        median_margin=float(np.median(margins)),
        labelled=Skipped("the inputs have no labels")
        if labels is None
        else _against_labels(classes == labels, wanted == labels),
    )


def _against_labels(right: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]) -> Labelled:
    return Labelled(
        samples=len(right),
        known=int(known.sum()),
        lost=int((known & ~right).sum()),
        gained=int((right & ~known).sum()),
    )


def top1_margins(outputs: Floats) -> Floats:
    """(N, classes) -> by how much each row prefers its first class to its second."""
    if outputs.shape[1] < 2:
        return np.full(len(outputs), np.inf)
    best = np.partition(outputs, -2, axis=1)
    margins: Floats = best[:, -1] - best[:, -2]
    return margins
