"""Codes picked before strided 1x1 convolutions: the same numbers, and no stride left to move."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.artifact import CalibrationMethod, Dialect
from exporter.graph.files import check, serialize
from exporter.passes.forms.pick_codes import pick_codes
from exporter.passes.qdq.insert import insert_qdq
from exporter.passes.values import dims, is_op
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from tests.graphs import Array, exact_in_any_order, graph, random, run
from tests.samples import samples_of

CHANNELS = 4


def network(
    first: str, second: str, size: tuple[int, int] = (9, 8), groups: int = 1
) -> tuple[ir.Model, Array]:
    """Two 1x1 convolutions with these attributes that read one quantized tensor, and images."""
    h, w = size
    model = graph(
        f"""net (float[N,{CHANNELS},{h},{w}] x) => (float[N,C,1,1] y) {{
            a = Relu (x)
            b = Conv <{first}, group={groups}> (a, w, bias)
            c = Conv <{second}, group={groups}> (a, w)
            d = GlobalAveragePool (b)
            e = GlobalAveragePool (c)
            y = Add (d, e)
        }}""",
        w=random(CHANNELS, CHANNELS // groups, 1, 1, seed=1),
        bias=random(CHANNELS, seed=2),
    )
    images = random(2, CHANNELS, h, w, seed=3, low=-1.0, high=2.0)
    ranges = calibrate(
        model, samples_of(images), method=CalibrationMethod.MINMAX, progress=Silent()
    )
    insert_qdq(model, ranges, Dialect.U8_ASYMMETRIC)
    return exact_in_any_order(model), images


@settings(max_examples=20, deadline=None)
@given(
    step=st.tuples(st.integers(1, 3), st.integers(1, 3)).filter(lambda step: step != (1, 1)),
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    groups=st.sampled_from([1, 2, 4]),
)
def test_every_stride_size_and_grouping_gives_the_same_numbers(
    step: tuple[int, int], size: tuple[int, int], groups: int
) -> None:
    strides = f"strides=[{step[0]},{step[1]}]"
    model, images = network(strides, strides, size, groups)
    before = run(model, images)
    assert pick_codes(model).fired == 1
    check(model)
    (pick,) = [node for node in model.graph if is_op(node, "MaxPool")]
    sides = tuple(-(-side // every) for side, every in zip(size, step, strict=True))
    assert pick.outputs[0].dtype == ir.DataType.UINT8
    assert dims(pick.outputs[0]) == ("N", CHANNELS, *sides)
    assert np.array_equal(run(model, images), before)
    assert pick_codes(model).fired == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("strides=[2,2]", "strides=[1,1]"),
        ("strides=[2,2]", "strides=[2,1]"),
        ("strides=[2,2], pads=[1,1,1,1]", "strides=[2,2], pads=[1,1,1,1]"),
    ],
)
def test_where_it_must_not_fire(first: str, second: str) -> None:
    model, _ = network(first, second)
    content = serialize(model)
    assert pick_codes(model).fired == 0
    assert serialize(model) == content
