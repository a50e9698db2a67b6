"""Parity: the figures against hand-computed ones, and the gates on planted errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from exporter.artifact import Precision, Skipped
from exporter.errors import BuildError
from exporter.prove.certificate import Parity
from exporter.prove.limits import LIMITS
from exporter.prove.parity import Floats, Reference, check_accuracy, compare, relative_l2, sqnr_db


def reference(samples: int = 64, classes: int = 10) -> Reference:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((samples, classes))
    return Reference(
        source="test",
        inputs=np.zeros((samples, 3, 8, 8), np.float32),
        outputs=exact.astype(np.float32).astype(np.float64),
        outputs_float64=exact[:8],
    )


def judge(outputs: Floats, against: Reference, precision: Precision, trained: bool) -> Parity:
    return compare(
        outputs,
        against,
        LIMITS[precision, trained],
        scope="engine",
        batch_sizes=(1, 8),
        batch_max_abs=0.0,
    )


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


def test_flips_gate_trained_weights_only() -> None:
    against = reference()
    outputs = against.outputs.copy()
    order = np.argsort(outputs, axis=1)
    for row in range(4):  # 4 of 64 answers change to the runner-up, by a hair more than needed
        first, second = order[row, -1], order[row, -2]
        outputs[row, second] = outputs[row, first] + 1e-6
    trained = judge(outputs, against, Precision.INT8, True)
    assert trained.flips == 4
    assert trained.top1_agreement == pytest.approx(60 / 64)
    assert not trained.passed
    assert judge(outputs, against, Precision.INT8, False).passed


def test_near_ties_within_the_references_own_error_do_not_count_as_flips() -> None:
    exact = np.zeros((10, 4))
    exact[:, 0], exact[:, 1] = 1.0, 0.5
    exact[0, 1] = 1.0 - 1e-7  # float32 cannot tell these two apart reliably
    single = exact.copy()
    single[1, 2] += 1e-6  # the error that the float32 reference itself makes
    against = Reference("test", np.zeros((10, 1)), single, exact[:8])
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
    against = dataclasses.replace(reference(), labels=labels)
    outputs = against.outputs.copy()
    outputs[20] = -outputs[20]
    accuracy = check_accuracy(outputs, against, "digits")
    assert accuracy is not None
    assert accuracy.top1_reference == pytest.approx(48 / 64)
    assert accuracy.top1 == pytest.approx(47 / 64)
    assert accuracy.flips == 1
    assert check_accuracy(outputs, reference(), "none") is None
