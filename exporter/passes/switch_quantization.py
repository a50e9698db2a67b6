"""Take the quantization of weights, activations or biases out of a lowered graph.

With one of the three left, the error is that one's alone. Weights and biases become those of the
float32 network that the graph was lowered from, where they are found by the layer's name.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport
from exporter.passes.qdq.tensors import channel_axis
from exporter.passes.values import Array, add_constant, constant, is_op


class Part(StrEnum):
    """What is quantized."""

    WEIGHTS = "weights"
    ACTIVATIONS = "activations"
    BIASES = "biases"


_INPUT: Final = {Part.WEIGHTS: 1, Part.BIASES: 2}


def switch_off(graph: ir.Model, network: ir.Model, parts: Collection[Part]) -> PassReport:
    """Makes some parts float32 again, in place; `network` is what the graph was lowered from."""
    body = graph.graph
    fired = 0
    if Part.ACTIVATIONS in parts:
        for node in [node for node in body if is_op(node, "QuantizeLinear")]:
            fired += bypass_pair(node)
    layers = {node.name: node for node in network.graph if is_op(node, "Conv", "Gemm")}
    for node in [node for node in body if node.name in layers]:
        for part in parts:
            index = _INPUT.get(part)
            if index is not None and len(node.inputs) > index:
                exact = _exact(layers[node.name], index)
                if exact is not None:
                    value = add_constant(body, f"{node.name}.{part}.exact", exact)
                    node.replace_input_with(index, value)
                    fired += 1
    common.RemoveUnusedNodesPass()(graph)
    return PassReport("switch_off", fired)


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


def _exact(layer: ir.Node, index: int) -> Array | None:
    """The network's own numbers; a bias that lowering added is zero. None: they are computed."""
    found = constant(layer.inputs[index]) if index < len(layer.inputs) else None
    if found is not None:
        return found.astype(np.float32)
    weight = constant(layer.inputs[1])
    if weight is None or index < len(layer.inputs):
        return None
    return np.zeros(weight.shape[channel_axis(layer)], np.float32)
