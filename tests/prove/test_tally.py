"""Counts that add up: however images are shared out, the sum is that of all at once."""

from __future__ import annotations

import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import BuildError
from exporter.prove.paired import Array
from exporter.prove.tally import EngineTally, Right, Tally, tally

RNG = np.random.default_rng(0)
REFERENCE = np.round(RNG.normal(size=(64, 8)), 1)
ENGINE = np.round(REFERENCE + RNG.normal(scale=0.5, size=(64, 8)), 1)
LABELS = RNG.integers(0, 8, 64)
ROWS = np.arange(64)[:, None]


def of(rows: Array, labelled: bool = True, reference: bool = True) -> Tally:
    """The inputs are the rows' numbers, so that "engines" look their answers up."""
    return tally(
        rows[:, None],
        LABELS[rows] if labelled else None,
        {"engine": lambda batch: ENGINE[batch[:, 0]]},
        (lambda batch: REFERENCE[batch[:, 0]]) if reference else None,
        near_tie=0.1,
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 63), max_size=6, unique=True), st.booleans())
def test_any_division_gives_the_same_sum(cuts: list[int], labelled: bool) -> None:
    whole = of(np.arange(64), labelled)
    parts = [of(part, labelled) for part in np.split(np.arange(64), sorted(cuts))]
    assert functools.reduce(operator.add, parts) == whole
    assert functools.reduce(operator.add, reversed(parts)) == whole


def test_the_counts_are_those_of_the_answers() -> None:
    found = of(np.arange(64))
    engine = found.engines["engine"]
    classes, wanted = ENGINE.argmax(axis=1), REFERENCE.argmax(axis=1)
    best = np.sort(REFERENCE, axis=1)
    tied = best[:, -1] - best[:, -2] <= 0.1
    assert engine.counts.images == found.images == found.labelled == 64
    assert engine.counts.flips == int(((classes != wanted) & ~tied).sum()) > 5
    assert engine.counts.near_ties == int(tied.sum()) > 2
    assert engine.right.top1 == int((classes == LABELS).sum())
    above = (ENGINE[np.arange(64), LABELS][:, None] < ENGINE).sum(axis=1)
    ties = (ENGINE[np.arange(64), LABELS][:, None] == ENGINE).sum(axis=1) > 1
    assert int((above[~ties] < 5).sum()) <= engine.right.top5 <= int((above < 5).sum())
    assert found.reference.top1 == int((wanted == LABELS).sum())
    assert sum(found.answers.values()) == 64
    right = sum(times for (label, answer), times in found.answers.items() if label == answer)
    assert right == found.reference.top1


def test_without_a_reference_there_is_accuracy_alone() -> None:
    found = of(np.arange(64), reference=False)
    assert found.engines["engine"].right == of(np.arange(64)).engines["engine"].right
    assert found.engines["engine"].counts.images == 0
    assert found.answers == {}


def test_answers_that_are_not_finite_are_counted_and_never_right() -> None:
    scores = np.eye(8)[LABELS[:4]]
    scores[1, 0] = np.nan
    found = tally(
        np.zeros((4, 1)), LABELS[:4], {"e": lambda _: scores}, lambda _: np.eye(8)[LABELS[:4]], 0.0
    )
    engine = found.engines["e"]
    assert (engine.unanswered, engine.right, engine.counts.flips) == (1, Right(3, 3), 1)
    with pytest.raises(BuildError, match="not finite"):
        tally(np.zeros((4, 1)), None, {}, lambda _: scores, 0.0)


def test_an_engine_that_breaks_costs_itself() -> None:
    def broken(_: Array) -> Array:
        raise BuildError("out of memory")

    one = tally(np.zeros((2, 1)), None, {"bad": broken, "good": lambda _: np.eye(8)[:2]}, None, 0.0)
    both = one + Tally({"bad": EngineTally(), "good": EngineTally()})
    assert both.engines["bad"].broken == "out of memory"
    assert not both.engines["good"].broken


def test_pictures_that_were_not_read_keep_their_order() -> None:
    first, second = Tally({}, unreadable=("a", "b")), Tally({}, unreadable=("c",))
    assert (first + second).unreadable == ("a", "b", "c")
