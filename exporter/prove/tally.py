"""What engines answered to some images, as whole numbers that add up.

Adding is exact, and its order does not matter: however the images were shared out among machines,
the sum is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.errors import BuildError
from exporter.prove.answers import Floats, top1_margins
from exporter.prove.paired import Answered, Array, Classes, Scores, against, count
from exporter.prove.release_gate import Counts

TOP: Final = 5


@dataclass(frozen=True)
class Right:
    """Images that were answered as they are labelled."""

    top1: int = 0
    top5: int = 0
    """The label is among the five best classes."""

    def __add__(self, other: Right) -> Right:
        return Right(self.top1 + other.top1, self.top5 + other.top5)


@dataclass(frozen=True)
class EngineTally:
    """Of one engine."""

    right: Right = field(default_factory=Right)
    counts: Counts = field(default_factory=lambda: Counts(0, 0))
    """Against the reference; all zero where there is none."""
    unanswered: int = 0
    """Answers that are not finite."""
    broken: str = ""
    """Why it stopped answering; "": it did not."""

    def __add__(self, other: EngineTally) -> EngineTally:
        return EngineTally(
            self.right + other.right,
            self.counts + other.counts,
            self.unanswered + other.unanswered,
            self.broken or other.broken,
        )


@dataclass(frozen=True)
class Tally:
    """Of all engines, for the same images."""

    engines: Mapping[str, EngineTally]
    images: int = 0
    labelled: int = 0
    reference: Right = field(default_factory=Right)
    answers: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """How often the reference (label, answer)ed so."""
    unreadable: tuple[str, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        """Its `unreadable` keep their order, so parts are added in theirs."""
        return Tally(
            {name: one + other.engines[name] for name, one in self.engines.items()},
            self.images + other.images,
            self.labelled + other.labelled,
            self.reference + other.reference,
            dict(Counter(self.answers) + Counter(other.answers)),
            self.unreadable + other.unreadable,
        )


def tally(
    inputs: Array,
    labels: Classes | None,
    engines: Mapping[str, Scores],
    reference: Scores | None,
    near_tie: float,
) -> Tally:
    """What is answered to a batch of inputs.

    Raises:
        BuildError: the reference does not run, or its answers are not finite.
    """
    expected = None if reference is None else reference(inputs)
    if expected is not None and not np.isfinite(expected).all():
        raise BuildError("the reference's answer to an image is not finite")
    answers: dict[tuple[int, int], int] = {}
    known = Right()
    if expected is not None and labels is not None:
        known = _right(expected, labels)
        pairs = zip(labels.tolist(), expected.argmax(axis=1).tolist(), strict=True)
        answers = dict(Counter(pairs))
    return Tally(
        {name: _one(run, inputs, labels, expected, near_tie) for name, run in engines.items()},
        len(inputs),
        0 if labels is None else len(inputs),
        known,
        answers,
    )


def _one(
    run: Scores, inputs: Array, labels: Classes | None, expected: Floats | None, near_tie: float
) -> EngineTally:
    try:
        scores = run(inputs)
        found = None if expected is None else against(scores, expected, expected.argmax(axis=1))
    except BuildError as error:
        return EngineTally(broken=str(error))
    finite = np.isfinite(scores).all(axis=1)
    counts = Counts(0, 0)
    if expected is not None and found is not None:
        answered = Answered(
            images=np.arange(len(inputs)),
            reference=expected.argmax(axis=1),
            gaps=top1_margins(expected),
            engines={"": found},
            unreadable=(),
            broken={},
        )
        counts, _ = count(answered, "", near_tie, labels)
    right = Right() if labels is None else _right(scores[finite], labels[finite])
    return EngineTally(right, counts, int((~finite).sum()))


def _right(scores: Floats, labels: npt.NDArray[Any]) -> Right:
    """Ties go to the first class, as in `argmax`."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    hits = best == labels[:, None]
    return Right(int(hits[:, 0].sum()) if best.size else 0, int(hits.any(axis=1).sum()))
