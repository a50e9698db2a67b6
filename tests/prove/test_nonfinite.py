"""Answers that are NaN or infinite: no exception, never a pass, and words that name them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from exporter.artifact import Precision, Skipped
from exporter.images.samples import Samples
from exporter.prove.distance import Floats, relative_l2, sqnr_db
from exporter.prove.limits import LIMITS
from exporter.prove.parity import check_accuracy, compare
from exporter.prove.reference import Reference

SAMPLES, CLASSES = 12, 5
BAD = (np.nan, np.inf, -np.inf)
WORDS = "answers to 1 of 12 inputs hold NaN or infinity (first: input 3)"


def reference(outputs: Floats | None = None, *, float64: bool = True) -> Reference:
    if outputs is None:
        outputs = np.random.default_rng(0).standard_normal((SAMPLES, CLASSES))
    return Reference(
        source="test",
        inputs=Samples.of("test", np.zeros((SAMPLES, 3, 8, 8), np.float32)),
        outputs=outputs,
        outputs_float64=outputs[:8].copy() if float64 else Skipped("an ONNX file has none"),
    )


def spoilt(outputs: Floats, value: float, *, whole: bool = False) -> Floats:
    changed = outputs.copy()
    changed[3, slice(None) if whole else 2] = value
    return changed


@pytest.mark.parametrize("whole", [False, True], ids=["one class", "a whole answer"])
@pytest.mark.parametrize(("value", "key"), [*product(BAD, LIMITS)])
def test_an_engine_that_answers_them_fails(
    value: float, key: tuple[Precision, bool], whole: bool
) -> None:
    against = reference()
    outputs = spoilt(against.outputs, value, whole=whole)
    parity = compare(outputs, against, LIMITS[key], singly=outputs[:4])
    assert not parity.passed
    assert parity.failures[0] == f"the {WORDS}"
    assert "at batch 1: the answers to 1 of 4 inputs hold NaN or infinity" in str(parity.failures)
    assert check_accuracy(outputs, against) is None


@pytest.mark.parametrize("value", BAD)
def test_one_that_answers_them_at_batch_1_alone_fails(value: float) -> None:
    against = reference()
    singly = spoilt(against.outputs, value)[:4]
    for limits in LIMITS.values():
        parity = compare(against.outputs, against, limits, singly=singly)
        assert not parity.passed
        assert parity.failures[0].startswith("at batch 1: the answers to 1 of 4 inputs hold NaN")


@pytest.mark.parametrize("float64", [True, False])
@pytest.mark.parametrize("value", BAD)
def test_a_reference_that_answers_them_certifies_nothing(value: float, float64: bool) -> None:
    """Not even an engine that answers the same."""
    against = reference(spoilt(reference().outputs, value), float64=float64)
    for limits in LIMITS.values():
        parity = compare(against.outputs, against, limits, singly=against.outputs[:4])
        assert not parity.passed
        assert parity.failures[0] == f"the reference's {WORDS}"


def test_the_largest_doubles_overflow_without_a_word() -> None:
    against = reference()
    for limits in LIMITS.values():
        parity = compare(np.full_like(against.outputs, 1e300), against, limits)
        assert not parity.passed


def test_an_error_of_zero_is_zero_whatever_the_reference() -> None:
    zeros = np.zeros((SAMPLES, CLASSES))
    assert relative_l2(zeros, zeros) == 0.0
    assert sqnr_db(zeros, zeros) == 300.0
    assert relative_l2(zeros + 1, zeros) == np.inf
    for limits in LIMITS.values():
        assert compare(zeros, reference(zeros), limits, singly=zeros[:4]).passed
        assert not compare(zeros + 1, reference(zeros), limits).passed
