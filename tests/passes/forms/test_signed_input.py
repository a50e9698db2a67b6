"""The image in int8 around 0: who is rewritten, how far the numbers move, what is left alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporter.artifact import CalibrationMethod, Dialect
from exporter.graph.files import serialize
from exporter.passes.forms.signed_input import signed_input
from exporter.passes.qdq.insert import insert_qdq
from exporter.passes.values import constant
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from tests.graphs import Array, graph, random, run
from tests.samples import samples_of

NCHW = """net (float[N,3,8,8] x) => (float[N,8,8,8] y) {
    c = Conv <pads=[1,1,1,1]> (x, w, b)
    y = Relu (c)
}"""
NHWC = """net (float[N,8,8,3] x) => (float[N,8,8,8] y) {
    t = Transpose <perm=[0,3,1,2]> (x)
    c = Conv <pads=[1,1,1,1]> (t, w, b)
    y = Relu (c)
}"""


def quantized(
    low: float, high: float, dialect: Dialect = Dialect.U8_ASYMMETRIC, text: str = NCHW
) -> tuple[ir.Model, ir.Model, Array]:
    """A convolution in float and quantized, and images between `low` and `high`."""
    exact = graph(text, w=random(8, 3, 3, 3, seed=1), b=random(8, seed=2))
    shape = (4, 3, 8, 8) if text is NCHW else (4, 8, 8, 3)
    images = random(*shape, seed=3, low=low, high=high)
    ranges = calibrate(
        exact, samples_of(images), method=CalibrationMethod.MINMAX, progress=Silent()
    )
    model = exact.clone()
    insert_qdq(model, ranges, dialect)
    return exact, model, images


def first(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type == "QuantizeLinear")


def numbers(node: ir.Node) -> tuple[float, Array]:
    scale, zero_point = constant(node.inputs[1]), constant(node.inputs[2])
    assert scale is not None
    assert zero_point is not None
    return float(scale), zero_point


@pytest.mark.parametrize("text", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_the_image_is_signed_and_both_ends_of_its_range_are_reached(text: str) -> None:
    _, model, images = quantized(-2.1, 2.6, text=text)
    before, zero_point = numbers(first(model))
    report = signed_input(model)
    assert (report.fired, report.refused) == (1, ())
    quantize = first(model)
    for node in (quantize, *quantize.outputs[0].consumers()):
        scale, zero = numbers(node)
        assert zero.dtype == np.int8
        assert zero == 0
        assert scale * 127 >= (255 - int(zero_point)) * before * (1 - 1e-6)
        assert scale * 128 >= int(zero_point) * before * (1 - 1e-6)
        assert scale == pytest.approx(np.abs(images).max() / 127, rel=0.01)


def test_the_result_moves_by_no_more_than_the_steps_of_both_say() -> None:
    exact, model, images = quantized(-2.1, 2.6)
    expected, before = run(exact, images), run(model, images)
    signed_input(model)
    after = run(model, images)
    assert not np.array_equal(after, before)
    rms = [float(np.sqrt(np.mean((answer - expected) ** 2))) for answer in (before, after)]
    assert rms[1] < 1.25 * rms[0]


def test_only_the_image_is_rewritten() -> None:
    _, model, _ = quantized(-2.1, 2.6)
    others = [numbers(n) for n in model.graph if n.op_type == "QuantizeLinear"][1:]
    signed_input(model)
    assert [numbers(n) for n in model.graph if n.op_type == "QuantizeLinear"][1:] == others


def test_a_second_run_changes_nothing() -> None:
    _, model, _ = quantized(-2.1, 2.6)
    signed_input(model)
    content = serialize(model)
    assert signed_input(model).fired == 0
    assert serialize(model) == content


@pytest.mark.parametrize(
    ("low", "high", "dialect", "reason"),
    [
        (0.0, 1.0, Dialect.U8_ASYMMETRIC, "is 0 already"),
        (-0.5, 1.0, Dialect.U8_ASYMMETRIC, "times as large"),
        (-2.1, 2.6, Dialect.S8_SYMMETRIC, "in uint8"),
    ],
)
def test_what_is_left_alone(low: float, high: float, dialect: Dialect, reason: str) -> None:
    _, model, _ = quantized(low, high, dialect)
    content = serialize(model)
    report = signed_input(model)
    assert report.fired == 0
    assert reason in report.refused[0][1]
    assert serialize(model) == content


def test_codes_that_another_operator_reads_stay() -> None:
    _, model, _ = quantized(-2.1, 2.6)
    codes = first(model).outputs[0]
    reader = ir.node("Identity", [codes], name="reader")
    reader.outputs[0].name = "codes"
    reader.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
    reader.outputs[0].shape = codes.shape
    model.graph.append(reader)
    model.graph.outputs.append(reader.outputs[0])
    report = signed_input(model)
    assert report.fired == 0
    assert "more than DequantizeLinear" in report.refused[0][1]
