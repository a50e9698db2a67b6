"""Put the residual sum and the activation inside the convolution: one `com.microsoft.FusedConv`.

    Relu(Conv(X, W, B) + Z)   ->  FusedConv(X, W, B, Z, activation="Relu")
    Relu(Conv(X, W, B))       ->  FusedConv(X, W, B,    activation="Relu")

The operator (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) exists in
ONNX Runtime alone, so this is for its FP32 graphs. Where both addends are convolutions (a
projection shortcut), the one deeper in the network, the end of the main branch, takes the sum: the
shortcut's convolution runs first and its output is Z. Must not fire: the Add or the convolution has
another reader or is a graph output; the addends' shapes differ (Z is not broadcast); not float32;
not two-dimensional.
"""

from __future__ import annotations

import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.passes.values import dims, is_op, why_not_private

DOMAIN = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


def fuse_residual(graph: ir.Model) -> PassReport:
    """`counts` says how many of the fused convolutions took a residual sum."""
    body = graph.graph
    depth = _convolution_depths(body)
    refused: list[tuple[str, str]] = []
    with_sum = 0
    for add in [node for node in body if is_op(node, "Add")]:
        convs = [value for value in add.inputs if value and is_op(value.producer(), "Conv")]
        if not convs:
            continue
        reason = _why_not_sum(add)
        chosen = None
        if reason is None:
            convs.sort(key=lambda value: -depth[_producer(value)])
            reasons = [_why_not_conv(value) for value in convs]
            chosen = next((v for v, why in zip(convs, reasons, strict=True) if why is None), None)
            reason = None if chosen is not None else reasons[0]
        if chosen is None:
            refused.append((add.name or "Add", str(reason)))
            continue
        z = add.inputs[1] if add.inputs[0] is chosen else add.inputs[0]
        _fuse(body, _producer(chosen), z, add.outputs[0].consumers()[0], extra=(add,))
        with_sum += 1
    without_sum = 0
    for relu in [node for node in body if is_op(node, "Relu")]:
        x = relu.inputs[0]
        if x is None or not is_op(x.producer(), "Conv"):
            continue
        reason = _why_not_conv(x)
        if reason is not None:
            refused.append((relu.name or "Relu", reason))
            continue
        _fuse(body, _producer(x), None, relu)
        without_sum += 1
    if with_sum or without_sum:
        body.opset_imports[DOMAIN] = 1
    fired = with_sum + without_sum
    return PassReport("fuse_residual", fired, tuple(refused), {"with a residual sum": with_sum})


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node


def _convolution_depths(body: ir.Graph) -> dict[ir.Node, int]:
    """For each node, the most convolutions on a path from the input through it."""
    depth: dict[ir.Node, int] = {}
    for node in body:
        before = max((depth.get(p, 0) for p in node.predecessors()), default=0)
        depth[node] = before + is_op(node, "Conv")
    return depth


def _why_not_sum(add: ir.Node) -> str | None:
    """Why the sum cannot go into any convolution."""
    shared = why_not_private(add.outputs[0])
    if shared:
        return f"the sum is not the activation's alone: {shared}"
    if not is_op(add.outputs[0].consumers()[0], "Relu"):
        return f"the sum goes to {add.outputs[0].consumers()[0].op_type}, not to Relu"
    a, b = (dims(value) for value in add.inputs)
    if a is None or b is None or None in a or None in b:
        return "the addends' shapes are not known"
    if a != b:
        return f"the addends' shapes differ: {a} and {b}"
    if add.inputs[0] is add.inputs[1]:
        return "both addends are one tensor"
    return None


def _why_not_conv(x: ir.Value) -> str | None:
    """Why the convolution that makes `x` cannot take what follows it."""
    shared = why_not_private(x)
    if shared:
        return f"the convolution's output is not its alone: {shared}"
    conv = _producer(x)
    if x.dtype is not ir.DataType.FLOAT:
        return f"{conv.name} is not float32"
    size = dims(x)
    if size is None or len(size) != 4:
        return f"{conv.name} is not two-dimensional"
    return None


def _fuse(
    body: ir.Graph,
    conv: ir.Node,
    z: ir.Value | None,
    relu: ir.Node,
    extra: tuple[ir.Node, ...] = (),
) -> None:
    """Replaces conv (, add) and relu. The result has the convolution's name, the Relu's output."""
    inputs = list(conv.inputs)
    if z is not None:
        inputs += [None] * (3 - len(inputs)) + [z]
    fused = ir.Node(
        DOMAIN,
        "FusedConv",
        inputs,
        [*conv.attributes.values(), ir.AttrString("activation", "Relu")],
        name=conv.name,
    )
    # Where the Relu was: Z may come from a node that stands after the convolution.
    ir.convenience.replace_nodes_and_values(
        body, relu, [relu, *extra, conv], [fused], relu.outputs, fused.outputs
    )
