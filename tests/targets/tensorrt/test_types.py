"""A strongly typed network: each convolution is built in its own type of the graph, no other."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.artifact import ElementType, Operation, Precision
from exporter.errors import BuildError
from exporter.targets.tensorrt.process import run_builder
from exporter.targets.tensorrt.request import LAYERS, BuildRequest
from exporter.targets.tensorrt.rtx import read_layers
from exporter.targets.tensorrt.types import asked_types, check_types
from tests.graphs import random

TYPES = {
    "half": (TensorProto.FLOAT16, ElementType.FP16),
    "brain": (TensorProto.BFLOAT16, ElementType.BF16),
    "single": (TensorProto.FLOAT, ElementType.FP32),
}


def convolutions(path: Path) -> Path:
    """One convolution after the other, each in a type of its own with a cast before it."""
    nodes, weights, last = [], [], "x"
    for name, (kind, _) in TYPES.items():
        weight = numpy_helper.from_array(random(16, 16, 3, 3), f"{name}.float")
        raw = onnx.helper.make_tensor(
            f"{name}.weight", kind, weight.dims, numpy_helper.to_array(weight).ravel()
        )
        weights.append(raw)
        nodes += [
            helper.make_node("Cast", [last], [f"{name}.cast"], name=f"{name}.cast", to=kind),
            helper.make_node("Conv", [f"{name}.cast", raw.name], [name], name=name),
        ]
        last = name
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, 12, 12])
    output = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 16, 6, 6])
    graph = helper.make_graph(nodes, "g", [image], [output], weights)
    opsets = [helper.make_opsetid("", 22)]  # the first whose Conv takes BFLOAT16
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opsets), path)
    return path


def test_each_convolution_is_built_in_the_graphs_type(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel here")
    graph = convolutions(tmp_path / "mixed.onnx")
    request = BuildRequest("tensorrt_rtx", str(graph), str(tmp_path), "sm89", ((1, 1, 8),))
    run_builder(request, "mixed", lambda _: None)
    listed = read_layers(tmp_path / LAYERS)
    built = {
        node: layer.dtype
        for layer in listed.layers
        if Operation.CONV in layer.does
        for node in layer.nodes
        if node in TYPES
    }
    assert built == {name: kind for name, (_, kind) in TYPES.items()}
    asked = asked_types(graph)
    assert asked == built
    check_types(listed, asked, Precision.FP16, "mixed")
    with pytest.raises(BuildError, match="brain in bf16 instead of fp16"):
        check_types(listed, asked | {"brain": ElementType.FP16}, Precision.FP16, "mixed")
