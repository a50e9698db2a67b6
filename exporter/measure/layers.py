"""What each convolution and matrix product of a network computes and moves, for one image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layer:
    """Counts of elements, whatever their type; `macs` are multiply-accumulates."""

    name: str
    macs: int
    inputs: int
    outputs: int
    weights: int


def layers_of(portable_path: Path) -> dict[str, Layer]:
    """Name of a node, and of its output -> its counts, from an ONNX file."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(portable_path))
    graph = model.graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type not in {"Conv", "Gemm", "MatMul"}:
            continue
        x, weight, y = (shapes.get(name, []) for name in (*node.input[:2], node.output[0]))
        # A fixed batch is divided out; the first dimension is the batch's in all three operators.
        if node.input[1] not in shapes or not all((*x[1:], *weight, *y[1:])) or not y:
            continue
        outputs = math.prod(y[1:])
        products = math.prod(weight[1:]) if node.op_type == "Conv" else math.prod(x[1:])
        layer = Layer(node.name, outputs * products, math.prod(x[1:]), outputs, math.prod(weight))
        # OpenVINO names some kernels after the output.
        found[node.name] = found[node.output[0]] = layer
    return found
