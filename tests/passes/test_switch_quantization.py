"""Weights, activations and biases made float32 again, each without the others."""

from __future__ import annotations

from itertools import combinations

import onnx_ir as ir
import pytest

from exporter.artifact import Dialect
from exporter.passes.qdq.nodes import is_quantized
from exporter.passes.switch_quantization import Part, switch_off
from tests.causes import planted
from tests.graphs import relative_error, run


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return planted.network()


@pytest.mark.parametrize("dialect", [Dialect.U8_ASYMMETRIC, Dialect.S8_SYMMETRIC])
def test_with_all_three_off_it_is_the_network(network: ir.Model, dialect: Dialect) -> None:
    graph = planted.ours(network, dialect)
    switch_off(graph, network, tuple(Part))
    assert not any(node.op_type == "QuantizeLinear" for node in graph.graph)
    exact = run(network, planted.IMAGES)
    assert relative_error(run(graph, planted.IMAGES), exact) < 1e-6
    assert [v.name for v in graph.graph.outputs] == [v.name for v in network.graph.outputs]


@pytest.mark.parametrize("off", list(combinations(Part, 2)))
def test_one_part_alone_stays_quantized(network: ir.Model, off: tuple[Part, Part]) -> None:
    graph = planted.ours(network)
    assert switch_off(graph, network, off).fired > 0
    (left,) = set(Part) - set(off)
    places = {Part.ACTIVATIONS: 0, Part.WEIGHTS: 1, Part.BIASES: 2}
    for node in graph.graph:
        if node.op_type == "Conv":
            for part, index in places.items():
                assert is_quantized(node.inputs[index]) == (part is left)
    exact = run(network, planted.IMAGES)
    assert 1e-6 < relative_error(run(graph, planted.IMAGES), exact) < 0.05
