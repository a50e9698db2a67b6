"""Weights with the zero point -1: the same numbers, where a matrix product pays."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporter.artifact import CalibrationMethod, Dialect
from exporter.graph.files import serialize
from exporter.passes.forms.offset_weights import offset_weights
from exporter.passes.qdq.insert import insert_qdq
from exporter.passes.qdq.nodes import quantized_weight
from exporter.passes.values import constant
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from tests.graphs import Array, graph, random, run
from tests.samples import samples_of


def quantized(channels: int, outputs: int, window: int, group: int = 1) -> tuple[ir.Model, Array]:
    """One quantized convolution and images for it."""
    model = graph(
        f"""net (float[N,{channels},4,4] x) => (float[N,F,4,4] y) {{
            c = Conv <pads=[{",".join([str(window // 2)] * 4)}], group={group}> (x, w, b)
            y = Relu (c)
        }}""",
        w=random(outputs, channels // group, window, window, seed=1),
        b=random(outputs, seed=2),
    )
    images = random(2, channels, 4, 4, seed=3, low=-1.0, high=2.0)
    ranges = calibrate(
        model, samples_of(images), method=CalibrationMethod.MINMAX, progress=Silent()
    )
    insert_qdq(model, ranges, Dialect.U8_ASYMMETRIC)
    return model, images


def convolution(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type == "Conv")


def test_the_numbers_are_the_same_and_every_zero_point_is_minus_one() -> None:
    model, images = quantized(256, 32, 1)
    weight = quantized_weight(convolution(model))
    assert weight is not None
    codes, before = weight[1].copy(), run(model, images)
    report = offset_weights(model)
    assert (report.fired, report.refused) == (1, ())
    moved = constant(weight[0].inputs[0])
    zero_points = constant(weight[0].inputs[2])
    assert moved is not None
    assert zero_points is not None
    assert np.array_equal(moved.astype(int), codes.astype(int) - 1)
    assert zero_points.dtype == np.int8
    assert zero_points.tolist() == [-1] * 32
    assert np.array_equal(run(model, images), before)


@pytest.mark.parametrize(
    ("channels", "outputs", "window", "fires"),
    [
        (256, 64, 1, True), (64, 256, 1, False), (128, 512, 1, False),
        (64, 64, 3, False), (64, 128, 3, True), (128, 128, 3, True), (16, 16, 3, False),
    ],
)  # fmt: skip
def test_it_fires_where_it_was_measured_to_pay(
    channels: int, outputs: int, window: int, fires: bool
) -> None:
    model, _ = quantized(channels, outputs, window)
    content = serialize(model)
    report = offset_weights(model)
    assert report.fired == fires
    if not fires:
        assert "faster with VNNI" in report.refused[0][1]
        assert serialize(model) == content


def test_a_second_run_changes_nothing() -> None:
    model, _ = quantized(256, 32, 1)
    offset_weights(model)
    content = serialize(model)
    assert offset_weights(model).fired == 0
    assert serialize(model) == content


def test_groups_and_full_codes_are_left_alone() -> None:
    model, _ = quantized(256, 32, 1, group=2)
    assert offset_weights(model).refused == (("c", "its groups are matrix products already"),)
    model, _ = quantized(256, 32, 1)
    weight = quantized_weight(convolution(model))
    assert weight is not None
    codes = weight[1].copy()
    codes[0, 0] = -128
    value = weight[0].inputs[0]
    assert value is not None
    value.const_value = ir.tensor(codes, name=value.name)
    assert offset_weights(model).refused == (
        ("c", "its codes leave no room for a zero point of -1"),
    )
