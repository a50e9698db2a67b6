"""Write a bias in int32 as the float32 numbers that it stands for.

    DequantizeLinear(codes int32, scale, zero point)  ->  (codes - zero point) * scale

in float32 as DequantizeLinear computes it: the same numbers. TensorRT adds biases in float and
dequantizes no int32, which ONNX Runtime's quantizer writes and its CPU kernels need.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport
from exporter.passes.strip_quantization import dequantized_weight
from exporter.passes.values import add_constant, constant, is_op


def float_biases(graph: ir.Model) -> PassReport:
    """Counts as fired each DequantizeLinear of int32 constants that is gone, in place."""
    body = graph.graph
    found = [node for node in body if is_op(node, "DequantizeLinear") and _is_int32(node)]
    for node in found:
        numbers = dequantized_weight(node.outputs[0])
        assert numbers is not None  # its codes are constant
        value = add_constant(body, f"{node.name}.float", numbers)
        node.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
        body.remove(node, safe=True)
    if found:
        common.RemoveUnusedNodesPass()(graph)
    return PassReport("float_biases", len(found))


def _is_int32(node: ir.Node) -> bool:
    codes = constant(node.inputs[0])
    is_output = node.outputs[0].is_graph_output()
    return codes is not None and codes.dtype == np.int32 and not is_output
