"""Small graphs for the tests of graph code: written as ONNX text, run without optimizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
from onnx_ir.passes import common

from exporter.graph.files import serialize

Array = npt.NDArray[Any]


def graph(text: str, **weights: Array) -> ir.Model:
    """A model from the text of its graph (https://onnx.ai/onnx/repo-docs/Syntax.html).

    Weights are given by name; each node is named after its output; shapes are inferred.
    """
    return graph_of_opset(20, text, **weights)


def graph_of_opset(opset: int, text: str, **weights: Array) -> ir.Model:
    """The same, as an older or newer exporter would have written it."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = node.output[0]
    model = ir.from_proto(proto)
    common.ShapeInferencePass()(model)
    common.CheckerPass(full_check=True)(model)
    return model


def random(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> Array:
    """Float32 numbers, uniform in [low, high)."""
    return np.random.RandomState(seed).uniform(low, high, shape).astype(np.float32)


def run(model: ir.Model | bytes, x: Array) -> Array:
    """The first output, ONNX Runtime's own optimizations off so that they hide nothing."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    content = model if isinstance(model, bytes) else serialize(model)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    output: Array = session.run(None, {session.get_inputs()[0].name: x})[0]
    return output


def exact_in_any_order(model: ir.Model) -> ir.Model:
    """The same codes with scales that are powers of two: float32 then sums their products exactly.

    So a quantized graph rewritten with its sums in another order gives the same numbers on every
    CPU; else a result that lies between two codes may be rounded to either.
    """
    for node in model.graph:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            scale = node.inputs[1]
            assert scale is not None
            assert scale.const_value is not None
            powers = np.exp2(np.rint(np.log2(scale.const_value.numpy()))).astype(np.float32)
            scale.const_value = ir.tensor(powers, name=scale.name)
    return model


def operators(model: ir.Model) -> list[str]:
    """The operators in graph order."""
    return [node.op_type for node in model.graph]


def relative_error(result: Array, reference: Array) -> float:
    """||result - reference|| / ||reference||."""
    exact = reference.astype(np.float64)
    return float(np.linalg.norm(result - exact) / np.linalg.norm(exact))
