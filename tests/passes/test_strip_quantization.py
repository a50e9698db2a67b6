"""The float32 network behind Q/DQ and casts: its numbers, its Relus, and what is left as it is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporter.artifact import Dialect, Precision
from exporter.errors import InputError
from exporter.graph.lower import Lowering, lower
from exporter.passes.strip_quantization import strip_quantization
from exporter.passes.values import constant
from tests.causes import planted
from tests.graphs import graph, operators, random, relative_error, run


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return planted.network()


@pytest.mark.parametrize("dialect", [Dialect.U8_ASYMMETRIC, Dialect.S8_SYMMETRIC])
def test_our_own_int8_becomes_the_network_but_for_rounded_weights(
    network: ir.Model, dialect: Dialect
) -> None:
    stripped = planted.ours(network, dialect)
    assert strip_quantization(stripped).fired > 0
    assert operators(stripped) == operators(network)
    exact = run(network, planted.IMAGES)
    assert relative_error(run(stripped, planted.IMAGES), exact) < 0.02


def test_a_half_precision_network_becomes_float32(network: ir.Model) -> None:
    half, _ = lower(network, Lowering(Precision.FP16, Dialect.FLOAT))
    assert strip_quantization(half).fired == 2  # the casts at both ends
    assert operators(half) == operators(network)
    assert relative_error(run(half, planted.IMAGES), run(network, planted.IMAGES)) < 1e-3


QUANTIZED = """
net (float[N,3,8,8] x) => (float[N,4,8,8] y) {
    a = Conv <pads=[1,1,1,1]> (x, w)
    q = QuantizeLinear (a, s, zero)
    y = DequantizeLinear (q, s, zero)
}
"""


@pytest.mark.parametrize(
    ("zero", "expected"),
    [
        (np.uint8(0), ["Conv", "Relu"]),
        (np.int8(-128), ["Conv", "Relu"]),
        (np.uint8(128), ["Conv"]),
        (np.int8(0), ["Conv"]),
    ],
)
def test_a_pair_that_clamps_at_zero_is_a_relu(
    zero: np.integer[np._typing.NBitBase], expected: list[str]
) -> None:
    weights = {"w": random(4, 3, 3, 3), "s": np.array(0.05, np.float32), "zero": np.asarray(zero)}
    model = graph(QUANTIZED, **weights)
    x = random(2, 3, 8, 8, seed=1)
    before = run(model, x)
    strip_quantization(model)
    assert operators(model) == expected
    assert [value.name for value in model.graph.outputs] == ["y"]
    if expected[-1] == "Relu":
        assert np.abs(run(model, x) - before).max() <= 0.05


def test_what_does_not_change_the_type_of_floats_stays() -> None:
    model = graph(
        """net (uint8[N,3,8,8] x) => (float[N,4,8,8] y) {
            a = Cast <to=1> (x)
            y = Conv <pads=[1,1,1,1]> (a, w)
        }""",
        w=random(4, 3, 3, 3),
    )
    assert strip_quantization(model).fired == 0
    assert operators(model) == ["Cast", "Conv"]


def test_the_given_graph_of_a_copy_is_left_alone(network: ir.Model) -> None:
    half, _ = lower(network, Lowering(Precision.FP16, Dialect.FLOAT))
    strip_quantization(half.clone())
    kinds = {value.dtype for node in half.graph for value in node.outputs if node.op_type == "Conv"}
    assert kinds == {ir.DataType.FLOAT16}


def test_a_weight_in_blocks_is_refused() -> None:
    text = """net (float[N,4] x) => (float[N,2] y) {
        d = DequantizeLinear <axis=0, block_size=2> (w, s)
        y = MatMul (x, d)
    }"""
    from tests.graphs import graph_of_opset

    model = graph_of_opset(21, text, w=np.ones((4, 2), np.int8), s=np.ones((2, 2), np.float32))
    with pytest.raises(InputError, match="quantized in blocks"):
        strip_quantization(model)


def test_weights_per_channel_are_scaled_along_their_axis(network: ir.Model) -> None:
    stripped = planted.ours(network)
    strip_quantization(stripped)
    for node in network.graph:
        if node.op_type == "Conv":
            twin = planted.node_named(stripped, str(node.name))
            given, found = constant(node.inputs[1]), constant(twin.inputs[1])
            assert given is not None
            assert found is not None
            assert relative_error(found, given) < 0.01
