"""Several outputs: each is held against its own limits, the worst is shown, all must pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from exporter.artifact import Precision, Skipped
from exporter.images.samples import Samples
from exporter.prove.certificate import Parity
from exporter.prove.distance import Floats
from exporter.prove.limits import LIMITS
from exporter.prove.parity import check_accuracy, compare
from exporter.prove.reference import Reference
from exporter.runtime.outputs import Output

PARTS = (Output("map", (2, 3, 3)), Output("logits", (10,)))
SAMPLES = 64


def reference(labels: bool = False) -> Reference:
    """A feature map a thousand times as large as the logits beside it."""
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((SAMPLES, 28))
    exact[:, :18] *= 1000
    known = exact[:, 18:].argmax(axis=1) if labels else None
    inputs = Samples.of("zeros", np.zeros((SAMPLES, 3, 8, 8), np.float32), known)
    return Reference(
        "test", inputs, exact.astype(np.float32).astype(np.float64), exact[:8], None, "x", PARTS, 1
    )


def judged(outputs: Floats, precision: Precision = Precision.FP32) -> Parity:
    return compare(outputs, reference(), LIMITS[precision, True], singly=outputs[:8])


def test_a_small_output_is_not_lost_beside_a_large_one() -> None:
    outputs = reference().outputs.copy()
    outputs[:, 18:] *= 1.001
    whole = np.linalg.norm(outputs - reference().outputs) / np.linalg.norm(reference().outputs)
    assert whole < 2e-6  # all of them together would pass
    parity = judged(outputs)
    assert not parity.passed
    assert {failure.split(":")[0] for failure in parity.failures} == {"output logits"}
    assert parity.output == "logits"
    assert parity.rel_l2 == pytest.approx(1e-3)
    assert [(one.name, one.passed) for one in parity.outputs] == [("map", True), ("logits", False)]


def test_the_worst_is_the_one_nearest_to_its_limit() -> None:
    outputs = reference().outputs.copy()
    outputs[:, :18] *= 1 + 1e-6
    outputs[:, 18:] *= 1 + 1e-7
    parity = judged(outputs)
    assert parity.passed, parity.failures
    assert parity.output == "map"
    assert parity.rel_l2 == pytest.approx(1e-6, rel=1e-3)
    assert [one.rel_l2 for one in parity.outputs] == pytest.approx([1e-6, 1e-7], rel=1e-3)


def test_top_1_is_of_the_scores_alone() -> None:
    outputs = reference().outputs.copy()
    outputs[:20, 18:] = np.roll(outputs[:20, 18:], 1, axis=1)  # other classes
    parity = judged(outputs, Precision.INT8)
    assert parity.flips == 20
    assert parity.top1_agreement == pytest.approx(44 / 64)
    told = [failure for failure in parity.failures if "top1_agreement" in failure]
    assert told
    assert all(failure.startswith("output logits: ") for failure in told)
    assert isinstance(parity.outputs[0].top1_agreement, Skipped)
    assert parity.outputs[1].top1_agreement == parity.top1_agreement
    assert "top1_agreement" in parity.limits
    assert "top1_agreement" not in parity.outputs[0].limits


def test_labels_are_of_the_scores() -> None:
    against = reference(labels=True)
    outputs = against.outputs.copy()
    outputs[0, 18:] *= -1
    accuracy = check_accuracy(outputs, against)
    assert accuracy is not None
    assert accuracy.top1_reference == 1
    assert accuracy.top1 == pytest.approx(63 / 64)
    assert check_accuracy(outputs, dataclasses.replace(against, scores=None)) is None


@pytest.mark.parametrize("parts", [PARTS, ()])
def test_without_scores_there_is_no_top_1(parts: tuple[Output, ...]) -> None:
    against = dataclasses.replace(reference(), parts=parts, scores=None)
    outputs = against.outputs * (1 + 1e-7)
    parity = compare(outputs, against, LIMITS[Precision.FP32, True])
    assert parity.passed, parity.failures
    assert isinstance(parity.top1_agreement, Skipped)
    assert parity.flips == 0
    assert not any("top1" in limit for limit in parity.limits)


def test_an_output_that_is_not_finite_fails_by_name() -> None:
    outputs = reference().outputs.copy()
    outputs[3, 0] = np.nan
    parity = judged(outputs)
    assert not parity.passed
    assert parity.output == "map"
    assert any("output map: the answers to 1 of 64 inputs hold NaN" in f for f in parity.failures)
