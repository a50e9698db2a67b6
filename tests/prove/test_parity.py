"""Parity: the figures against hand-computed ones, and the gates on planted errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from exporter.artifact import Precision, Skipped
from exporter.errors import BuildError
from exporter.images.samples import Samples
from exporter.progress import Silent
from exporter.prove.certificate import Parity, Scope
from exporter.prove.distance import Array, Floats, relative_l2, sqnr_db
from exporter.prove.limits import LIMITS
from exporter.prove.parity import check_accuracy, check_parity, compare
from exporter.prove.reference import Reference, make_reference, run_all
from tests.modules import model_of


def reference(samples: int = 64, classes: int = 10) -> Reference:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((samples, classes))
    return Reference(
        source="test",
        inputs=Samples.of("zeros", np.zeros((samples, 3, 8, 8), np.float32)),
        outputs=exact.astype(np.float32).astype(np.float64),
        outputs_float64=exact[:8],
    )


def judge(outputs: Floats, against: Reference, precision: Precision, trained: bool) -> Parity:
    return compare(outputs, against, LIMITS[precision, trained])


def test_equal_outputs_pass_every_gate() -> None:
    against = reference()
    for precision, trained in LIMITS:
        parity = judge(against.outputs, against, precision, trained)
        assert parity.passed, parity.failures
        assert parity.max_abs == 0
        assert parity.flips == 0
        assert parity.sqnr_db == 300


def test_figures_are_those_of_their_definitions() -> None:
    against = reference()
    outputs = against.outputs * 1.001
    parity = judge(outputs, against, Precision.FP16, True)
    assert parity.rel_l2 == pytest.approx(1e-3)
    assert parity.sqnr_db == pytest.approx(60.0)
    assert parity.cosine == pytest.approx(1.0)
    assert parity.max_abs == pytest.approx(np.abs(against.outputs).max() * 1e-3)
    assert relative_l2(np.array([3.0, 4.0]), np.array([0.0, 10.0])) == pytest.approx(0.5)
    assert sqnr_db(np.array([0.1]), np.array([10.0])) == pytest.approx(40.0)


def test_the_float32_gate_is_against_float64() -> None:
    against = reference()
    outputs = against.outputs.copy()
    outputs[:8] *= 1 + 3e-6
    parity = judge(outputs, against, Precision.FP32, False)
    assert not parity.passed
    assert [failure.split()[0] for failure in parity.failures] == ["rel_l2_float64"]
    assert isinstance(parity.reference_rel_l2_float64, float)
    assert parity.reference_rel_l2_float64 < 1e-7


def inexact(own: float) -> Reference:
    """A reference whose float32 answers are off by `own`, relative, each in its own direction."""
    against = reference()
    noise = np.random.default_rng(5).standard_normal(against.outputs.shape)
    noise *= np.linalg.norm(against.outputs[:8]) / np.linalg.norm(noise[:8])
    return dataclasses.replace(
        against,
        outputs=against.outputs + own * noise,
        outputs_float64=against.outputs[:8],
    )


@pytest.mark.parametrize("own", [5e-6, 5e-5, 5e-4])
def test_the_float32_limits_follow_the_references_own_error(own: float) -> None:
    """An engine that is exact passes, one that is ten times as far as eager does not."""
    against = inexact(own)
    exact = reference().outputs
    for singly in (exact[:8], against.outputs[:8]):
        parity = compare(exact, against, LIMITS[Precision.FP32, False], singly=singly)
        assert parity.passed, parity.failures
    assert parity.limits["rel_l2_float64"] == pytest.approx(3 * own)
    assert parity.reference_rel_l2_float64 == pytest.approx(own)
    far = exact + 10 * (against.outputs - exact)
    assert not judge(far, against, Precision.FP32, False).passed


@pytest.mark.parametrize("own", [0.0, 1e-8, 1e-7])
def test_a_good_reference_leaves_the_float32_limits_alone(own: float) -> None:
    limits = judge(reference().outputs, inexact(own), Precision.FP32, False).limits
    assert (limits["rel_l2_float64"], limits["rel_l2"]) == (2e-6, 4e-6)


@pytest.mark.parametrize("own", [0.1, 10.0])
def test_a_reference_that_is_far_off_itself_certifies_nothing(own: float) -> None:
    for engine in (reference().outputs, inexact(own).outputs):
        assert not judge(engine, inexact(own), Precision.FP32, False).passed


def test_a_failure_names_figure_limit_and_worst_input() -> None:
    against = reference()
    outputs = against.outputs.copy()
    outputs[41] += 1.0
    failure = judge(outputs, against, Precision.FP16, False).failures[0]
    assert "rel_l2" in failure
    assert "limit 0.005" in failure
    assert "worst input: 41 of 64" in failure


def test_an_answer_that_is_not_a_number_fails() -> None:
    against = reference()
    outputs = against.outputs.copy()
    outputs[3, 2] = np.nan
    parity = judge(outputs, against, Precision.INT8, False)
    assert not parity.passed


def with_flips(of: Reference, count: int) -> Floats:
    """The answers, the first `count` changed to the runner-up, by a hair more than needed."""
    outputs = of.outputs.copy()
    order = np.argsort(outputs, axis=1)
    for row in range(count):
        first, second = order[row, -1], order[row, -2]
        outputs[row, second] = outputs[row, first] + 1e-6
    return outputs


LOOSE = {"sqnr_db": 0.0, "rel_l2": 1.0, "rel_l2_float64": 1.0}
"""So that flips alone decide."""


@pytest.mark.parametrize(
    ("precision", "allowed"), [(Precision.FP32, 2), (Precision.FP16, 2), (Precision.INT8, 6)]
)
def test_agreement_fails_only_where_the_flips_show_it(precision: Precision, allowed: int) -> None:
    """P(flips > 2 of 64 | 1 %) = 0.026, P(flips > 6 of 64 | 5 %) = 0.041; one fewer: over 0.05."""
    against = reference()
    limits = {**LIMITS[precision, True], **LOOSE}
    fine = compare(with_flips(against, allowed), against, limits)
    assert fine.passed, fine.failures
    assert fine.top1_agreement == pytest.approx(1 - allowed / 64)
    assert isinstance(fine.agreement_at_most, float)
    assert isinstance(fine.top1_agreement, float)
    assert fine.top1_agreement < fine.limits["top1_agreement"] < fine.agreement_at_most
    bad = compare(with_flips(against, allowed + 1), against, limits)
    assert [failure.split()[0] for failure in bad.failures] == ["top1_agreement"]
    assert f"{allowed + 1} flips in 64 inputs" in bad.failures[0]


def test_flips_gate_trained_weights_only() -> None:
    against = reference()
    outputs = with_flips(against, 8)
    assert not judge(outputs, against, Precision.INT8, True).passed
    assert judge(outputs, against, Precision.INT8, False).passed


def labelled(of: Reference, labels: npt.NDArray[np.int64]) -> Reference:
    inputs = Samples.of("digits", np.zeros((len(labels), 1), np.float32), labels)
    return dataclasses.replace(of, inputs=inputs)


def test_labels_decide_by_accuracy() -> None:
    """Of 12 flips in 64, those that turn wrong answers into others cost nothing."""
    limits = {**LIMITS[Precision.INT8, True], **LOOSE}
    outputs = with_flips(reference(), 12)
    right = reference().outputs.argmax(axis=1)
    wrong = right.copy()
    wrong[:12] = [next(c for c in range(10) if c not in pair) for pair in zip(
        right[:12], outputs[:12].argmax(axis=1), strict=True)]  # fmt: skip
    fine = compare(outputs, labelled(reference(), wrong), limits)
    assert fine.passed, fine.failures
    assert "top1_agreement" not in fine.limits
    assert fine.limits["top1_drop"] == 0.01
    bad = compare(outputs, labelled(reference(), right), limits)
    assert [failure.split()[0] for failure in bad.failures] == ["top1_drop"]
    assert "12 right answers lost and 0 gained" in bad.failures[0]
    assert bad.drop_at_least == pytest.approx((2 * 0.05 ** (1 / 12) - 1) * 12 / 64)


def test_labels_that_the_reference_does_not_know_decide_nothing() -> None:
    """As with the labels of another network's classes."""
    limits = {**LIMITS[Precision.INT8, True], **LOOSE}
    unknown = labelled(reference(), np.full(64, 77))
    parity = compare(with_flips(reference(), 12), unknown, limits)
    assert [failure.split()[0] for failure in parity.failures] == ["top1_agreement"]
    assert "top1_drop" not in parity.limits


def test_flips_are_listed_with_their_margins() -> None:
    against = reference()
    outputs = with_flips(against, 20)
    parity = judge(outputs, against, Precision.INT8, True)
    assert parity.flips == 20
    assert len(parity.flipped) == 16
    margins = [flip.margin for flip in parity.flipped]
    assert margins == sorted(margins, reverse=True)
    best = np.sort(against.outputs, axis=1)
    assert parity.median_margin == pytest.approx(np.median(best[:, -1] - best[:, -2]))
    flip = parity.flipped[0]
    row = against.outputs[flip.input]
    assert flip.reference == row.argmax()
    assert flip.engine == outputs[flip.input].argmax()
    assert flip.margin == row[flip.reference] - row[flip.engine]


def test_near_ties_within_the_references_own_error_do_not_count_as_flips() -> None:
    exact = np.zeros((10, 4))
    exact[:, 0], exact[:, 1] = 1.0, 0.5
    exact[0, 1] = 1.0 - 1e-7  # float32 cannot tell these two apart reliably
    single = exact.copy()
    single[1, 2] += 1e-6  # the error that the float32 reference itself makes
    against = Reference("test", Samples.of("zeros", np.zeros((10, 1))), single, exact[:8])
    outputs = single.copy()
    outputs[0, 1] = 1.0 + 1e-7
    parity = judge(outputs, against, Precision.FP16, True)
    assert parity.near_ties == 1
    assert parity.flips == 0
    outputs[2, 1] = 1.0 + 1e-7  # a wide margin: a real flip
    assert judge(outputs, against, Precision.FP16, True).flips == 1


def test_no_float64_reference_is_said_and_gates_nothing() -> None:
    against = dataclasses.replace(reference(), outputs_float64=Skipped("an ONNX file has none"))
    parity = judge(against.outputs, against, Precision.FP32, True)
    assert parity.rel_l2_float64 == Skipped("an ONNX file has none")
    assert "rel_l2_float64" not in parity.limits
    assert not judge(against.outputs * (1 + 1e-5), against, Precision.FP32, True).passed


def test_another_number_of_classes_is_a_build_error() -> None:
    with pytest.raises(BuildError, match=r"\(64, 9\).*\(64, 10\)"):
        judge(reference().outputs[:, :9], reference(), Precision.FP32, False)


def test_accuracy_is_against_the_labels() -> None:
    labels = reference().outputs.argmax(axis=1)
    labels[:16] = (labels[:16] + 1) % 10
    against = labelled(reference(), labels)
    outputs = against.outputs.copy()
    outputs[20] = -outputs[20]
    accuracy = check_accuracy(outputs, against)
    assert accuracy is not None
    assert accuracy.top1_reference == pytest.approx(48 / 64)
    assert accuracy.top1 == pytest.approx(47 / 64)
    assert accuracy.flips == 1
    assert check_accuracy(outputs, reference()) is None


class Lookup:
    """A session that knows the answer to every input, and spoils those that `wrong` picks."""

    def __init__(self, of: Reference, wrong: Callable[[Array], bool]) -> None:
        (inputs,) = of.inputs.batches(of.inputs.count)
        self._known = {x.tobytes(): y for x, y in zip(inputs, of.outputs, strict=True)}
        self._wrong = wrong
        self.sizes: list[int] = []

    def run(self, batch: Array) -> Array:
        self.sizes.append(len(batch))
        answers = np.stack([self._known[x.tobytes()] for x in batch])
        return answers * 0 - 7.0 if self._wrong(batch) else answers

    def run_all(self, batch: Array) -> list[Array]:
        return [self.run(batch)]

    def run_named(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> Lookup:
        return self

    def __exit__(self, *exc: object) -> None: ...


def distinct() -> Reference:
    noise = np.random.default_rng(1).standard_normal((16, 5)).astype(np.float32)
    outputs = np.random.default_rng(2).standard_normal((16, 4))
    return Reference("test", Samples.of("noise", noise), outputs, outputs[:8])


@pytest.mark.parametrize(("precision", "trained"), list(LIMITS))
def test_an_engine_that_is_wrong_one_at_a_time_fails(precision: Precision, trained: bool) -> None:
    """Batch 1 is what is timed and served."""
    against = distinct()
    options: dict[str, Any] = {"scope": Scope.ENGINE, "progress": Silent(), "title": "x"}
    limits = LIMITS[precision, trained]
    right, _ = check_parity(Lookup(against, lambda _: False), against, limits, **options)
    assert right.passed
    assert right.limits["batch_max_abs"] > 0
    parity, _ = check_parity(Lookup(against, lambda b: len(b) == 1), against, limits, **options)
    assert not parity.passed
    assert parity.rel_l2 == 0
    assert parity.batch_max_abs > 5
    assert any(failure.startswith("batch_max_abs") for failure in parity.failures)
    assert any(failure.startswith("at batch 1: ") for failure in parity.failures)


def test_batches_that_differ_by_more_than_rounding_fail_by_that_alone() -> None:
    against = distinct()
    singly = against.outputs[:8] + 3e-5 * np.abs(against.outputs).max()
    parity = compare(against.outputs, against, {"batch_max_abs": 2e-5}, singly=singly)
    assert [failure.split()[0] for failure in parity.failures] == ["batch_max_abs"]


@pytest.mark.parametrize(("fixed", "sizes"), [(3, [3] * 6), (100, [100]), (None, [8, 8])])
def test_a_fixed_batch_is_filled_up(fixed: int | None, sizes: list[int]) -> None:
    against = distinct()
    session = Lookup(against, lambda _: False)
    outputs = run_all(session.run, against.inputs, fixed)
    assert session.sizes == sizes
    np.testing.assert_array_equal(outputs, against.outputs)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(("precision", "trained"), list(LIMITS))
def test_what_is_not_finite_fails_every_precision(
    value: float, precision: Precision, trained: bool
) -> None:
    against = reference()
    outputs = against.outputs.copy()
    outputs[0, 0] = value
    parity = judge(outputs, against, precision, trained)
    assert not parity.passed
    assert parity.max_abs == float("inf")
    assert parity.failures


def test_equal_zeros_are_equal() -> None:
    zeros = np.zeros((16, 4))
    against = Reference("test", Samples.of("zeros", np.zeros((16, 1))), zeros, zeros[:8])
    assert judge(zeros, against, Precision.FP32, False).passed
    assert not judge(zeros + 1e-3, against, Precision.FP32, False).passed


class Scaled(nn.Module):
    """Changes the images that it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2).mean((2, 3))


class Shifted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x[:, 0] += 1
        return x.amax((2, 3))


@pytest.mark.parametrize("module", [Scaled(), Shifted()])
def test_the_reference_leaves_the_evaluation_inputs_as_they_are(module: nn.Module) -> None:
    images = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    given = images.copy()
    inputs = Samples.of("images", images)
    made = make_reference(model_of(module, size=8, classes=3), inputs.held(), Silent())
    seen = np.concatenate(list(made.inputs.batches(8)))
    assert np.array_equal(images, given)
    assert np.array_equal(seen, given)
    expected = module(torch.from_numpy(given.copy())).numpy()
    assert relative_l2(made.outputs - expected, expected) < 1e-6
    assert isinstance(made.outputs_float64, np.ndarray)
    assert relative_l2(made.outputs_float64 - expected[:8], expected[:8]) < 1e-6
