"""Compute only the positions that are read: the stride of 1x1 convolutions, moved before its input.

    Conv(Relu(Conv(x, W, stride 1)), V 1x1, stride 2)  =  Conv(Relu(Conv(x, W, stride 2)), V 1x1)

A 1x1 convolution of stride 2 reads one position of four. Where nobody reads the other three, what
makes them need not either: a convolution or a pool takes the stride itself, an elementwise operator
hands it on to what it reads, and a 1x1 convolution, having it now, hands it on in turn. Where an
operand has other readers, as the shortcut of a sum has, its positions are picked by a MaxPool of
1x1 windows, on codes where it is quantized. Each number that is left is computed as before.

This is the original ResNet-50, whose stages begin with such convolutions (Keras, Caffe, MXNet; the
stride of torchvision's is on the 3x3 convolution, where every position is read): a tenth of its
arithmetic (docs/decisions/0056). Must not fire: a graph output or a reader of every position among
the readers; windows, padding or strides that differ between them; `auto_pad`, whose padding depends
on the stride; nothing behind the elementwise operators that could take the stride.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.tape import Tape

from exporter.artifact import PassReport
from exporter.passes.fuse_residual import DOMAIN
from exporter.passes.strides import (
    Step,
    insert_pick,
    ints,
    is_convolution,
    is_explicit,
    read_every_position,
    set_strides,
    shrink,
    step_of_readers,
    window,
)
from exporter.passes.values import constant, dims, is_op

_ELEMENTWISE = ("Add", "Clip", "DequantizeLinear", "LeakyRelu", "QuantizeLinear", "Relu")
_POOLS = ("AveragePool", "MaxPool")


def hoist_strides(graph: ir.Model) -> PassReport:
    """Counts as fired each convolution or pool that took a stride over."""
    body = graph.graph
    fired = 0
    picks: dict[tuple[ir.Value, Step], ir.Node] = {}
    # Readers come first, so that a 1x1 convolution that took a stride hands it on.
    for node in list(reversed(body)):
        step = step_of_readers(node.outputs[0]) if len(node.outputs) == 1 else None
        if step is None or not _reaches_a_taker(node, step):
            continue
        read_every_position(node.outputs[0])
        if _takes_strides(node):
            strides = ints(node, "strides", len(step), 1)
            set_strides(node, [a * b for a, b in zip(strides, step, strict=True)])
            fired += 1
        for index in _operands(node):
            operand = node.inputs[index]
            assert operand is not None
            pick = picks.get((operand, step))
            if pick is None or pick.graph is None:
                pick = picks[operand, step] = insert_pick(body, operand, step)
            node.replace_input_with(index, pick.outputs[0])
        shrink(node.outputs[0], step)
    for pick in picks.values():
        if pick.graph is not None:
            _pick_codes(body, pick)
    return PassReport("hoist_strides", fired)


def _reaches_a_taker(node: ir.Node, step: Step) -> bool:
    """Whether something before a value can take the stride, with elementwise operators between."""
    if _takes_strides(node):
        return len(window(node)) == len(step)
    if not _hands_on(node, len(step)):
        return False
    operands = [node.inputs[index] for index in _operands(node)]
    producers = [v.producer() for v in operands if v and len(v.uses()) == 1]
    return any(producer and _reaches_a_taker(producer, step) for producer in producers)


def _takes_strides(node: ir.Node) -> bool:
    if not is_explicit(node) or len(node.outputs) != 1 or not window(node):
        return False
    return is_convolution(node) or is_op(node, *_POOLS)


def _hands_on(node: ir.Node, axes: int) -> bool:
    """Whether each position of an elementwise result comes from that position of its operands."""
    if not is_op(node, *_ELEMENTWISE):
        return False
    shape = dims(node.outputs[0])
    if shape is None or len(shape) != axes + 2 or None in shape:
        return False
    if is_op(node, "QuantizeLinear", "DequantizeLinear"):  # a scale each, or one a channel
        scale = constant(node.inputs[1])
        return scale is not None and scale.ndim < 2 and node.attributes.get_int("axis", 1) == 1
    for value in filter(None, node.inputs):
        array = constant(value)
        if array is None and dims(value) != shape:
            return False
        if array is not None and array.size > 1 and array.shape[-axes:] != (1,) * axes:
            return False
    return True


def _operands(node: ir.Node) -> Iterator[int]:
    """The positions of the operands that are picked from where a result is: not a window's."""
    if is_op(node, *_ELEMENTWISE):
        yield from (i for i, v in enumerate(node.inputs) if v and constant(v) is None)
    elif node.domain == DOMAIN and len(node.inputs) > 3 and node.inputs[3] is not None:
        yield 3  # the sum of a FusedConv


def _pick_codes(body: ir.Graph, pick: ir.Node) -> None:
    """Moves a pool of dequantized numbers before DequantizeLinear, which others read as it is."""
    numbers, picked = pick.inputs[0], pick.outputs[0]
    dequantize = numbers.producer() if numbers else None
    if dequantize is None or not is_op(dequantize, "DequantizeLinear"):
        return
    codes = dequantize.inputs[0]
    assert codes is not None
    pick.replace_input_with(0, codes)
    name = f"{picked.name}.dequantize"
    tape = Tape()
    output = ir.val(f"{name}d", picked.dtype, picked.shape)
    picked.replace_all_uses_with(output)
    picked.type = codes.type
    inputs = [picked, *dequantize.inputs[1:]]
    tape.op("DequantizeLinear", inputs, dequantize.attributes, name=name, output=output)
    body.insert_after(pick, tape.nodes)
