"""Image by image beside the reference: what counts as a flip, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exporter.errors import BuildError, InputError
from exporter.images.labelled import LabelledImages
from exporter.prove.gate_record import Decision
from exporter.prove.paired import Answered, Scores, ask_all, count, judge, judge_decoders
from exporter.prove.release_gate import Counts, Limits

Array = np.ndarray[Any, Any]
LIMITS = Limits(max_drop=0.01, max_flips=0.01, confidence=0.95)
NAMES = ("ant", "bee", "cat")


def images(
    scores: Array, labels: Array | None = None, torn: tuple[int, ...] = ()
) -> LabelledImages:
    """Images that are their own scores; those that are `torn` cannot be decoded."""

    def read(place: int) -> Array:
        if place in torn:
            raise InputError(f"{place}.png cannot be read")
        row: Array = scores[place]
        return row

    names = tuple(f"{place}.png" for place in range(len(scores)))
    return LabelledImages("x", "0", names, labels, read, lambda place: f"data:{place}")


def as_they_are(batch: Array) -> Array:
    return batch.astype(np.float64)


def answered(given: LabelledImages, **engines: Scores) -> Answered:
    return ask_all(given, as_they_are, engines, 4, lambda _steps: None)


def swapped(batch: Array) -> Array:
    """Bees for ants, and ants for bees."""
    return as_they_are(batch)[:, [1, 0, 2]]


SCORES = np.array([[3, 0, 0], [0, 2, 0], [0, 0, 1], [1, 0.9, 0], [0, 5, 1], [4, 0, 0]], float)


def test_each_image_is_counted_once() -> None:
    found = answered(images(SCORES), same=as_they_are, bad=swapped)
    assert count(found, "same", 0.0, None)[0] == Counts(kept=6, flipped=0)
    assert count(found, "bad", 0.0, None)[0] == Counts(kept=1, flipped=5)
    # The fourth image is a near-tie then, and no flip.
    assert count(found, "bad", 0.2, None)[0] == Counts(kept=1, flipped=4, tied=1)
    labels = np.array([0, 0, 2, 0, 1, 2])
    assert count(found, "bad", 0.2, labels)[0] == Counts(
        kept=1, flipped=1, flipped_lost=2, flipped_gained=1, tied_lost=1
    )


def test_the_flips_come_with_both_answers_the_widest_margin_first() -> None:
    given = images(SCORES, np.array([0, 1, 2, 0, 1, 0]))
    one = judge(answered(given, bad=swapped), "bad", given, NAMES, 0.0, LIMITS)
    assert one.decision is Decision.FAIL
    assert (one.flips, one.lost, one.gained, one.top1, one.top1_reference) == (5, 5, 0, 1 / 6, 1.0)
    assert [flip.margin for flip in one.flipped] == pytest.approx([5, 4, 3, 2, 0.1])
    first = one.flipped[0]
    assert (first.image, first.reference, first.engine, first.label, first.thumbnail) == (
        "4.png", "bee", "ant", "bee", "data:4",
    )  # fmt: skip


def test_an_answer_that_is_not_finite_is_a_flip() -> None:
    def torn(batch: Array) -> Array:
        scores = as_they_are(batch)
        scores[:, 1] = np.nan
        return scores

    given = images(SCORES)
    one = judge(answered(given, torn=torn), "torn", given, NAMES, 0.0, LIMITS)
    assert (one.flips, one.flipped[0].engine) == (6, "no answer")
    with pytest.raises(BuildError, match=r"the reference's answer to 0\.png is not finite"):
        ask_all(given, torn, {}, 4, lambda _steps: None)


def test_what_cannot_be_decoded_is_left_out_everywhere() -> None:
    given = images(SCORES, np.array([0, 1, 2, 0, 1, 0]), torn=(1, 5))
    found = answered(given, bad=swapped)
    assert found.unreadable == ("1.png cannot be read", "5.png cannot be read")
    assert found.images.tolist() == [0, 2, 3, 4]
    one = judge(found, "bad", given, NAMES, 0.0, LIMITS)
    assert (one.judged, one.lost) == (4, 3)
    assert [flip.image for flip in one.flipped] == ["4.png", "0.png", "3.png"]
    with pytest.raises(InputError, match=r"no image can be decoded: 0\.png"):
        answered(images(SCORES, torn=tuple(range(6))))


def test_an_engine_that_breaks_costs_itself_alone() -> None:
    def broken(batch: Array) -> Array:
        raise BuildError(f"no memory for {len(batch)}")

    def narrow(batch: Array) -> Array:
        return as_they_are(batch)[:, :2]

    found = answered(images(SCORES), same=as_they_are, broken=broken, narrow=narrow)
    assert list(found.engines) == ["same"]
    assert found.broken["broken"] == "no memory for 4"
    assert "shape (4, 2), the reference with (4, 3)" in found.broken["narrow"]


def test_another_decoder_is_judged_by_the_reference_alone() -> None:
    """Its third picture is another one, its fifth cannot be decoded; no engine has a part in it."""

    def other(place: int) -> Array:
        if place == 4:
            raise InputError("4.png cannot be decoded")
        row: Array = SCORES[place][::-1] if place == 2 else SCORES[place]
        return row

    given = replace(images(SCORES, np.array([0, 1, 2, 0, 1, 0])), read_with_opencv=other)
    found = answered(given, bad=swapped)
    decoders = judge_decoders(found, given, NAMES, 0.0, ("ours", "theirs"))
    assert (decoders.judged, decoders.flips, decoders.top1, decoders.top1_other) == (6, 2, 1, 4 / 6)
    assert decoders.points == pytest.approx(100 * 4 / 6)
    assert [(one.image, one.engine) for one in decoders.flipped] == [
        ("2.png", "ant"), ("4.png", "no answer"),
    ]  # fmt: skip
    assert judge(found, "bad", given, NAMES, 0.0, LIMITS).flips == 5
