"""Strides of 1x1 convolutions moved to where fewer positions are computed: the same numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.artifact import CalibrationMethod, Dialect
from exporter.graph.files import check, serialize
from exporter.passes.forms.hoist_strides import hoist_strides
from exporter.passes.fuse_residual import fuse_residual
from exporter.passes.qdq.insert import insert_qdq
from exporter.passes.values import dims, is_op
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from tests.graphs import Array, exact_in_any_order, graph, operators, random, run
from tests.samples import samples_of

CHANNELS = 4
BLOCK = """
    a = Conv (x, w1)
    p = Relu (a)
    b = Conv <{window}> (p, w2, b2)
    q = Relu (b)
    c = Conv (q, w1, b2)
    s = Add ({sum})
    r = Relu (s)
"""
READERS = """
    d = Conv <strides=[{first}]> (r, w1, b2)
    e = Conv <strides=[{second}]> (r, w1)
    y = Add (d, e)
"""


def network(
    text: str, *, groups: int = 1, window: tuple[int, int] = (3, 3), size: tuple[int, int] = (9, 8)
) -> ir.Model:
    """A block and what reads it, on images of CHANNELS channels."""
    h, w = size
    return graph(
        f"net (float[N,{CHANNELS},{h},{w}] x) => (float[N,C,H,W] y) {{ {text} }}",
        w1=random(CHANNELS, CHANNELS, 1, 1, seed=1),
        w2=random(CHANNELS, CHANNELS // groups, *window, seed=2),
        b2=random(CHANNELS, seed=3),
    )


def original_block(
    window: str = "pads=[1,1,1,1]", added: str = "c, x", strides: tuple[str, str] = ("2,2", "2,2")
) -> str:
    """A block whose result is read by strided 1x1 convolutions, as in the original ResNet-50."""
    first, second = strides
    block = BLOCK.format(window=window, sum=added)
    return block + READERS.format(first=first, second=second)


def images(size: tuple[int, int] = (9, 8)) -> Array:
    return random(2, CHANNELS, *size, seed=5, low=-1.0, high=2.0)


def quantized(model: ir.Model, batch: Array) -> ir.Model:
    ranges = calibrate(model, samples_of(batch), method=CalibrationMethod.MINMAX, progress=Silent())
    insert_qdq(model, ranges, Dialect.U8_ASYMMETRIC)
    return exact_in_any_order(model)


def strides(model: ir.Model) -> dict[str, tuple[int, ...]]:
    convs = [node for node in model.graph if node.op_type in {"Conv", "FusedConv"}]
    return {str(node.name): tuple(node.attributes.get_ints("strides", (1, 1))) for node in convs}


def test_the_stride_reaches_the_3x3_convolution_and_the_shortcut() -> None:
    model = network(original_block())
    before = run(model, images())
    assert hoist_strides(model).fired == 2
    check(model)
    ones = (1, 1)
    assert strides(model) == {"a": ones, "b": (2, 2), "c": ones, "d": ones, "e": ones}
    (pick,) = [node for node in model.graph if is_op(node, "MaxPool")]
    assert str(pick.inputs[0] and pick.inputs[0].name) == "x"
    assert dims(pick.outputs[0]) == ("N", CHANNELS, 5, 4)
    np.testing.assert_allclose(run(model, images()), before, rtol=1e-5, atol=1e-6)


def test_codes_are_picked_where_the_shortcut_is_quantized() -> None:
    model = quantized(network(original_block(added="c, p")), images())
    before = run(model, images())
    assert hoist_strides(model).fired == 2
    check(model)
    (pick,) = [node for node in model.graph if is_op(node, "MaxPool")]
    assert pick.outputs[0].dtype == ir.DataType.UINT8
    assert np.array_equal(run(model, images()), before)


def test_a_fused_sum_is_picked_from_too() -> None:
    model = network(original_block())
    before = run(model, images())
    fuse_residual(model)
    assert hoist_strides(model).fired == 2
    assert "FusedConv" in operators(model)
    assert strides(model)["b"] == (2, 2)
    np.testing.assert_allclose(run(model, images()), before, rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    own=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    read=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    groups=st.sampled_from([1, 2, 4]),
    in_8_bits=st.booleans(),
)
def test_every_window_stride_padding_and_grouping_gives_the_same_numbers(
    window: tuple[int, int],
    pads: tuple[int, int, int, int],
    size: tuple[int, int],
    own: tuple[int, int],
    read: tuple[int, int],
    groups: int,
    in_8_bits: bool,
) -> None:
    inner = f"pads=[{_list(pads)}], strides=[{_list(own)}], group={groups}"
    projection = f"z = Conv <{inner}> (x, w2, b2)"
    text = projection + original_block(inner, "c, z", (_list(read), _list(read)))
    model = network(text, groups=groups, window=window, size=size)
    batch = images(size)
    if in_8_bits:
        model = quantized(model, batch)
    before = run(model, batch)
    handed_on = window == (1, 1) and not any(pads) and (*own, *read) != (1, 1, 1, 1)
    assert hoist_strides(model).fired == (0 if read == (1, 1) else 3) + handed_on
    check(model)
    after = run(model, batch)
    if in_8_bits:
        assert np.array_equal(after, before)
    else:
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def _list(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


def test_a_pool_takes_the_stride() -> None:
    model = network("""
        m = MaxPool <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,1]> (x)
        y = Conv <strides=[2,2]> (m, w1)
    """)
    before = run(model, images())
    assert hoist_strides(model).fired == 1
    assert operators(model) == ["MaxPool", "Conv"]
    assert np.array_equal(run(model, images()), before)


def test_a_second_run_changes_nothing() -> None:
    model = quantized(network(original_block()), images())
    hoist_strides(model)
    content = serialize(model)
    assert hoist_strides(model).fired == 0
    assert serialize(model) == content


NOT_THERE = {
    "a reader wants every position, as in torchvision's": original_block(strides=("2,2", "1,1")),
    "readers want other positions": original_block(strides=("2,2", "2,1")),
    "readers pad": original_block().replace("strides=", "pads=[1,1,1,1], strides="),
    "windows overlap": "a = Conv (x, w1) y = Conv <strides=[2,2]> (a, w2)",
    "another operator reads": "a = Conv (x, w1) b = Conv <strides=[2,2]> (a, w1) y = Softmax (a)",
    "nothing could take it": "a = Relu (x) y = Conv <strides=[2,2]> (a, w1)",
    "padding by itself": """
        a = Conv <auto_pad="SAME_UPPER"> (x, w2) y = Conv <strides=[2,2]> (a, w1)""",
    "a pool that rounds up": """
        a = MaxPool <kernel_shape=[2,2], strides=[2,2], ceil_mode=1> (x)
        y = Conv <strides=[2,2]> (a, w1)""",
}


@pytest.mark.parametrize("text", NOT_THERE.values(), ids=NOT_THERE)
def test_where_it_must_not_fire(text: str) -> None:
    model = network(text.replace("y = Add (d, e)", "y = Relu (e)"))
    content = serialize(model)
    assert hoist_strides(model).fired == 0
    assert serialize(model) == content


def test_a_graph_output_keeps_every_position() -> None:
    model = network("r = Conv (x, w2) y = Conv <strides=[2,2]> (r, w1)")
    model.graph.outputs.append(model.graph[0].outputs[0])
    assert hoist_strides(model).fired == 0
