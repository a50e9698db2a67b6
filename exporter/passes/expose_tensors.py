"""Debug copies: a graph with inner tensors exposed, or cut into parts.

`expose` adds tensors to the graph's outputs. In a Q/DQ graph the tensor that the next layer reads
is the dequantized one, so that is exposed: a second reader of the float tensor before it would keep
the runtime from fusing, and the copy would no longer be the engine.

`isolate` makes each part's input a graph input and each part's output a graph output, so that one
session tells what every one does when it is fed with exact values.

Both leave the graph's numbers alone; whoever uses them checks that (`drift.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport
from exporter.errors import BuildError
from exporter.passes.values import insert_behind, is_op

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def expose(graph: ir.Model, tensors: Iterable[str]) -> tuple[PassReport, dict[str, str]]:
    """Adds tensors to the outputs, in place; returns the output's name for each tensor.

    Raises:
        BuildError: the graph has no tensor of that name.
    """
    body = graph.graph
    values = values_by_name(body)
    exposed: dict[str, str] = {}
    for name in tensors:
        value = _readable(body, _as_read(_value(values, name)))
        if not any(value is output for output in body.outputs):
            body.outputs.append(value)
        exposed[name] = _name(value)
    return PassReport("expose", fired=len(exposed)), exposed


def isolate(graph: ir.Model, inputs: Iterable[str], outputs: Iterable[str]) -> PassReport:
    """Cuts the graph, in place, at the input tensors of some of its parts.

    Afterwards the graph's inputs are one `exact.<tensor>` for each of `inputs` (float32, in the
    shape that the tensor has), and those of its own that are still read; its outputs are
    `outputs`, in the order given.

    Raises:
        BuildError: the graph has no tensor of that name.
    """
    body = graph.graph
    values = values_by_name(body)
    ends = [_as_read(_value(values, output)) for output in outputs]
    cut = tuple(dict.fromkeys(inputs))
    for name in cut:
        value = _as_computed(_value(values, name))
        exact = ir.val(f"exact.{name}", ir.DataType.FLOAT, value.shape)
        body.inputs.append(exact)
        replacement = exact
        if value.dtype in _HALVES:
            replacement = _insert(body, ir.node("Cast", [exact], {"to": value.dtype}))
        for node, index in tuple(value.uses()):
            if is_op(node, "Cast") and node.outputs[0] in ends:
                continue  # it ends the block before
            if node.op_type == "QuantizeLinear":
                _requantize(body, node, replacement)
            else:
                node.replace_input_with(index, replacement)
    body.outputs.clear()
    body.outputs.extend(_readable(body, output) for output in ends)
    common.RemoveUnusedNodesPass()(graph)
    for value in [value for value in body.inputs if not value.uses()]:
        body.inputs.remove(value)
    return PassReport("isolate", fired=len(cut))


def _readable(body: ir.Graph, value: ir.Value) -> ir.Value:
    """A BF16 tensor in float32: numpy has no BF16, and OpenVINO hands its bits out as FP16."""
    if value.dtype is not ir.DataType.BFLOAT16:
        return value
    return _insert(body, ir.node("Cast", [value], {"to": ir.DataType.FLOAT}))


def values_by_name(body: ir.Graph) -> dict[str, ir.Value]:
    """Every computed or given value of the graph by its name."""
    values = {_name(value): value for value in body.inputs}
    values.update({_name(value): value for node in body for value in node.outputs})
    return values


def _requantize(body: ir.Graph, quantize: ir.Node, exact: ir.Value) -> None:
    """Gives the readers of a quantized tensor a Q/DQ of the exact one.

    The pair on the tensor itself stays: it ends the block before.
    """
    quantized = _insert(body, _copy_of(quantize, exact))
    for dequantize in tuple(quantize.outputs[0].consumers()):
        twin = _insert(body, _copy_of(dequantize, quantized))
        for node, index in tuple(dequantize.outputs[0].uses()):
            node.replace_input_with(index, twin)


def _copy_of(node: ir.Node, first_input: ir.Value) -> ir.Node:
    return ir.Node(
        node.domain, node.op_type, [first_input, *node.inputs[1:]], node.attributes.values()
    )


def _insert(body: ir.Graph, node: ir.Node) -> ir.Value:
    """Puts a node behind what it reads first; its output gets a name from that."""
    source = node.inputs[0]
    assert source is not None
    insert_behind(body, source, [node])
    node.outputs[0].name = f"{source.name}.{node.op_type}"
    return node.outputs[0]


def _as_read(value: ir.Value) -> ir.Value:
    """The dequantized twin of a tensor that is quantized, else the tensor itself."""
    for quantize in value.consumers():
        if quantize.op_type == "QuantizeLinear":
            for dequantize in quantize.outputs[0].consumers():
                if dequantize.op_type == "DequantizeLinear":
                    return dequantize.outputs[0]
    return value


def _as_computed(value: ir.Value) -> ir.Value:
    """The tensor that is read inside, where this one was made of it to be an output.

    Lowering gives a tensor's name to what the graph answers: its cast, or its dequantized twin.
    """
    maker = value.producer()
    if maker is None or not value.is_graph_output():
        return value
    source = maker.inputs[0]
    if is_op(maker, "Cast") and source is not None and source.dtype in _HALVES:
        return source
    quantize = source.producer() if source is not None else None
    if is_op(maker, "DequantizeLinear") and quantize is not None:
        return quantize.inputs[0] or value
    return value


def _value(values: Mapping[str, ir.Value], name: str) -> ir.Value:
    if name not in values:
        raise BuildError(f"the lowered graph has no tensor {name!r} to expose; export it again")
    return values[name]


def _name(value: ir.Value) -> str:
    assert value.name is not None  # every tensor is named by `name_tensors`
    return value.name
