"""A file of any precision: its precision, its blocks, its names, and what it still answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from exporter.artifact import Dialect, Precision
from exporter.errors import InputError
from exporter.graph.files import save, serialize
from exporter.graph.lower import Lowering, lower
from exporter.models.lowered_file import load_lowered
from tests.causes import planted
from tests.graphs import graph, random, run


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return planted.network()


def saved(graph: ir.Model, folder: Path) -> Path:
    path = folder / "given.onnx"
    save(graph, path)
    return path


def test_a_quantized_file_answers_the_same_under_the_networks_names(
    network: ir.Model, tmp_path: Path
) -> None:
    given = planted.theirs(network, tmp_path)
    for number, node in enumerate(given.graph):  # as a tool does that names nothing
        node.name = f"n{number}"
    before = run(given, planted.IMAGES)
    found = load_lowered(saved(given, tmp_path))
    assert found.precision is Precision.INT8
    assert np.array_equal(run(found.graph, planted.IMAGES), before)
    assert [value.name for value in found.graph.graph.inputs] == ["input"]
    assert [value.name for value in found.graph.graph.outputs] == ["logits"]
    assert found.facts.convs == 7
    assert len(found.facts.blocks) == 3
    convolutions = {str(n.name) for n in found.graph.graph if n.op_type == "Conv"}
    assert convolutions == {str(n.name) for n in found.network.graph if n.op_type == "Conv"}
    inside = {name for block in found.facts.blocks for name in block.nodes}
    assert len(convolutions & inside) == 6


@pytest.mark.parametrize(
    ("precision", "dialect"),
    [
        (Precision.FP32, Dialect.FLOAT),
        (Precision.FP16, Dialect.FLOAT),
        (Precision.BF16, Dialect.FLOAT),
    ],
)
def test_the_precision_is_that_of_the_convolutions(
    network: ir.Model, tmp_path: Path, precision: Precision, dialect: Dialect
) -> None:
    lowered, _ = lower(network, Lowering(precision, dialect))
    assert load_lowered(saved(lowered, tmp_path)).precision is precision


def test_constants_are_found_where_a_tool_writes_them_as_nodes(
    network: ir.Model, tmp_path: Path
) -> None:
    proto = onnx.load_model_from_string(serialize(planted.ours(network)))
    tensors = list(proto.graph.initializer)
    del proto.graph.initializer[:]
    constants = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
    nodes = [*constants, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, tmp_path / "given.onnx")
    found = load_lowered(tmp_path / "given.onnx")
    assert found.facts.convs == 7
    assert not any(node.op_type == "Constant" for node in found.graph.graph)


def test_a_graph_without_a_convolution_is_refused(tmp_path: Path) -> None:
    text = "net (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu (x) }"
    with pytest.raises(InputError, match="has no convolution"):
        load_lowered(saved(graph(text), tmp_path))


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    text = "net (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv <pads=[1,1,1,1]> (x, w) }"
    proto = onnx.load_model_from_string(serialize(graph(text, w=random(4, 3, 3, 3))))
    proto.graph.node[0].input[1] = "nowhere"
    onnx.save(proto, tmp_path / "given.onnx")
    with pytest.raises(InputError, match="reads 'nowhere', which nothing makes"):
        load_lowered(tmp_path / "given.onnx")
