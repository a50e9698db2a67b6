"""Activations, weights and biases, each quantized without the others."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporter.artifact import Dialect
from exporter.passes.qdq.nodes import is_quantized
from exporter.passes.switch_quantization import Part, bypass_pair, leave_only
from tests.causes import planted
from tests.graphs import relative_error, run


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return planted.network()


@pytest.mark.parametrize(
    ("part", "quantized"),
    [
        (Part.ACTIVATIONS, (True, False, False)),
        (Part.WEIGHTS, (False, True, True)),
        (Part.BIASES, (False, False, False)),
    ],
)
def test_one_part_alone_stays_quantized(
    network: ir.Model, part: Part, quantized: tuple[bool, bool, bool]
) -> None:
    graph = planted.ours(network)
    assert leave_only(graph, network, part).fired > 0
    for node in graph.graph:
        if node.op_type == "Conv":
            assert tuple(is_quantized(value) for value in node.inputs) == quantized
    assert [v.name for v in graph.graph.outputs] == [v.name for v in network.graph.outputs]
    exact = run(network, planted.IMAGES)
    assert 0 < relative_error(run(graph, planted.IMAGES), exact) < 0.05


def test_biases_alone_are_the_networks_own_rounded_whatever_they_were_corrected_to(
    network: ir.Model,
) -> None:
    graph = planted.ours(network)
    pair = planted.pair_of(planted.node_named(graph, planted.CONV), 2)
    planted.set_array(graph, pair, 0, planted.array(pair, 0) + np.int32(1000))
    leave_only(graph, network, Part.BIASES)
    exact = run(network, planted.IMAGES)
    assert relative_error(run(graph, planted.IMAGES), exact) < 1e-3


def test_float_biases_are_exact(network: ir.Model) -> None:
    graph = planted.ours(network, Dialect.S8_SYMMETRIC)
    leave_only(graph, network, Part.BIASES)
    exact = run(network, planted.IMAGES)
    assert relative_error(run(graph, planted.IMAGES), exact) < 1e-6


def test_an_output_that_was_dequantized_keeps_its_name(network: ir.Model) -> None:
    graph = planted.ours(network)
    quantize = next(node for node in graph.graph if node.op_type == "QuantizeLinear")
    (pair,) = quantize.outputs[0].consumers()
    graph.graph.outputs.append(pair.outputs[0])
    name = pair.outputs[0].name
    assert bypass_pair(quantize) == 1
    assert graph.graph.outputs[-1].name == name
    producer = graph.graph.outputs[-1].producer()
    assert producer is not None
    assert producer.op_type == "Identity"
