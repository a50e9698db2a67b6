"""Fold each BatchNormalization into the convolution before it, in float64.

    y = gamma * (conv(x, W) + b - mean) / sqrt(var + eps) + beta
      = conv(x, W') + b'    with    s  = gamma / sqrt(var + eps)      (O,)
                                    W' = W * s                        (O, I/g, kH, kW)
                                    b' = beta + (b - mean) * s        (O,)

(Jacob et al. 2018, arXiv:1712.05877, section 3.2.) The result is rounded to float32 once, which is
why this is not onnxscript's rule of the same name: that one computes in float32.

Fires where the normalization's input is a Conv that nobody else reads, and all parameters are
constants. Weights that several convolutions share are copied: each gets its own scale.
Must not fire: the convolution's output has another reader or is a graph output; training mode; a
weight that is an input of the graph; not float32; var + eps <= 0; a folded value not finite.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport
from exporter.passes.values import (
    Array,
    add_constant,
    constant,
    is_op,
    why_not_private,
)

_DEFAULT_EPSILON = 1e-5
"""BatchNormalization's epsilon where a node does not name one."""


def fold_batchnorm(graph: ir.Model) -> PassReport:
    """Each BatchNormalization that stays is in `refused` with its reason."""
    body = graph.graph
    fired = 0
    refused = []
    for node in list(body):
        if not is_op(node, "BatchNormalization"):
            continue
        folded = _folded_parameters(node)
        if isinstance(folded, str):
            refused.append((node.name or "BatchNormalization", folded))
            continue
        _absorb(body, node, *folded)
        fired += 1
    common.RemoveUnusedNodesPass()(graph)
    return PassReport("fold_batchnorm", fired, tuple(refused))


def _folded_parameters(batchnorm: ir.Node) -> tuple[Array, Array] | str:
    """(W', b') in float32, or why the fold must not happen."""
    x = batchnorm.inputs[0]
    assert x is not None
    conv = x.producer()
    if conv is None or not is_op(conv, "Conv"):
        return "its input is not a convolution's output"
    shared = why_not_private(x)
    if shared:
        return f"the convolution's output is not its alone: {shared}"
    if batchnorm.attributes.get_int("training_mode", 0) or any(
        output.uses() or output.is_graph_output() for output in batchnorm.outputs[1:]
    ):
        return "it is in training mode"
    weight = constant(conv.inputs[1])
    has_bias = len(conv.inputs) > 2 and conv.inputs[2] is not None
    bias = constant(conv.inputs[2]) if has_bias else None
    parameters = [constant(value) for value in batchnorm.inputs[1:5]]
    if weight is None or (has_bias and bias is None) or any(p is None for p in parameters):
        return "a weight is not a constant"
    arrays = [weight, *(p for p in parameters if p is not None)]
    if bias is not None:
        arrays.append(bias)
    if any(array.dtype != np.float32 for array in arrays):
        return f"not float32: {', '.join(sorted({str(a.dtype) for a in arrays}))}"
    if any(array.shape != (weight.shape[0],) for array in arrays[1:]):
        return f"a parameter does not have one value for each of the {weight.shape[0]} channels"
    return _fold(
        weight,
        np.zeros(weight.shape[0]) if bias is None else bias,
        *arrays[1:5],
        epsilon=batchnorm.attributes.get_float("epsilon", _DEFAULT_EPSILON),
    )


def _fold(
    weight: Array,
    bias: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float,
) -> tuple[Array, Array] | str:
    """The algebra of the module docstring."""
    shifted = variance.astype(np.float64) + epsilon
    if not np.all(shifted > 0):
        return "variance + epsilon is not positive in every channel"
    scale = gamma.astype(np.float64) / np.sqrt(shifted)
    column = scale.reshape(-1, *(1,) * (weight.ndim - 1))
    with np.errstate(over="ignore", invalid="ignore"):
        new_weight = (weight.astype(np.float64) * column).astype(np.float32)
        new_bias = (beta + (bias.astype(np.float64) - mean) * scale).astype(np.float32)
    if not (np.all(np.isfinite(new_weight)) and np.all(np.isfinite(new_bias))):
        return "a folded weight or bias is not finite in float32"
    return new_weight, new_bias


def _absorb(body: ir.Graph, batchnorm: ir.Node, weight: Array, bias: Array) -> None:
    """Gives the convolution its new parameters and the normalization's readers."""
    x = batchnorm.inputs[0]
    assert x is not None
    conv = x.producer()
    assert conv is not None
    old_weight = conv.inputs[1]
    assert old_weight is not None
    old_bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    conv.resize_inputs(3)
    conv.replace_input_with(1, None)
    conv.replace_input_with(2, None)
    for old in (old_weight, old_bias):
        if old is not None and not old.uses() and not old.is_graph_output():
            del body.initializers[str(old.name)]
    shared = bool(old_weight.uses())
    weight_name = f"{conv.name}.weight" if shared else str(old_weight.name)
    conv.replace_input_with(1, add_constant(body, weight_name, weight))
    conv.replace_input_with(2, add_constant(body, f"{conv.name}.bias", bias))
    output = batchnorm.outputs[0]
    name = output.name
    is_output = output.is_graph_output()
    output.replace_all_uses_with(x, replace_graph_outputs=True)
    body.remove(batchnorm, safe=True)
    if is_output:
        x.name = name
