"""Leave one thing of a lowered graph quantized: its activations, its weights or its biases.

The error is then that one's alone. What is float32 again is as in the network that the graph was
lowered from, found by the layer's name. Weights keep the biases that correct their rounding
(`quantize/correct.py`); of the biases themselves what is left is the rounding of the network's own.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport
from exporter.passes.qdq.nodes import is_quantized
from exporter.passes.qdq.tensors import channel_axis
from exporter.passes.values import Array, add_constant, constant, is_op


class Part(StrEnum):
    """What is quantized."""

    WEIGHTS = "weights"
    ACTIVATIONS = "activations"
    BIASES = "biases"


def leave_only(
    graph: ir.Model, network: ir.Model, part: Part, *, spared: Collection[str] = ()
) -> PassReport:
    """Makes all but one part float32 again, in place; `network` is what the graph came from.

    The weights and biases of the nodes `spared` stay.
    """
    body = graph.graph
    fired = 0
    if part is not Part.ACTIVATIONS:
        for node in [node for node in body if is_op(node, "QuantizeLinear")]:
            fired += bypass_pair(node)
    layers = {
        node.name: node
        for node in network.graph
        if is_op(node, "Conv", "Gemm") and node.name not in spared
    }
    for node in [node for node in body if node.name in layers]:
        layer = layers[node.name]
        weight = constant(layer.inputs[1])
        if weight is not None and part is not Part.WEIGHTS:
            fired += _put(body, node, 1, weight)
        bias = _bias(layer, weight)
        if bias is not None and len(node.inputs) > 2 and part is not Part.WEIGHTS:
            rounded = _rounded(node, bias) if part is Part.BIASES else bias
            fired += _put(body, node, 2, rounded)
    common.RemoveUnusedNodesPass()(graph)
    return PassReport("leave_only", fired)


def bypass_pair(quantize: ir.Node) -> int:
    """Has what reads the dequantized tensor read the float one; how many pairs went."""
    source = quantize.inputs[0]
    assert source is not None
    pairs = [n for n in quantize.outputs[0].consumers() if is_op(n, "DequantizeLinear")]
    for pair in pairs:
        if pair.outputs[0].is_graph_output():
            identity = ir.node("Identity", [source])
            name = pair.outputs[0].name
            pair.outputs[0].replace_all_uses_with(identity.outputs[0], replace_graph_outputs=True)
            pair.graph.insert_after(pair, identity)  # type: ignore[union-attr]
            pair.outputs[0].name = f"{name}.unused"
            identity.outputs[0].name = name
            identity.outputs[0].type, identity.outputs[0].shape = source.type, source.shape
        else:
            pair.outputs[0].replace_all_uses_with(source)
    return len(pairs)


def _put(body: ir.Graph, node: ir.Node, index: int, numbers: Array) -> int:
    value = add_constant(body, f"{node.name}.{index}.float", numbers.astype(np.float32))
    node.replace_input_with(index, value)
    return 1


def _bias(layer: ir.Node, weight: Array | None) -> Array | None:
    """The network's own; zeros where it has none and lowering added one. None: it is computed."""
    if len(layer.inputs) > 2 and layer.inputs[2] is not None:
        return constant(layer.inputs[2])
    return None if weight is None else np.zeros(weight.shape[channel_axis(layer)], np.float32)


def _rounded(node: ir.Node, bias: Array) -> Array:
    """A bias in the steps that the lowered one has; as it is where that is float."""
    value = node.inputs[2]
    pair = value.producer() if value is not None else None
    scale = constant(pair.inputs[1]) if pair is not None and is_quantized(value) else None
    if scale is None:
        return bias
    rounded: Array = np.rint(bias.astype(np.float64) / scale) * scale
    return rounded
