"""Which positions of a value are read, and picking them: every so many along each axis.

A convolution of 1x1 windows with a stride of 2 reads one position of four, and so does a pool of
1x1 windows, which is how positions are picked here: the only such operator that runtimes have in 8
bits, and in any layout of memory.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.tape import Tape

from exporter.passes.fuse_residual import DOMAIN
from exporter.passes.values import dims, insert_behind, is_op

Step = tuple[int, ...]
"""Which positions are read: every so many along each spatial axis."""


def step_of_readers(value: ir.Value) -> Step | None:
    """The positions that all readers of a value read alike; None: all, or they differ."""
    steps = {_step(node, index) for node, index in value.uses()}
    step = next(iter(steps)) if len(steps) == 1 else None
    return step if step and set(step) != {1} and not value.is_graph_output() else None


def _step(node: ir.Node, index: int) -> Step:
    """The positions of its operand that a node reads; empty where its windows are not pixels."""
    if index != 0 or not (is_convolution(node) or is_op(node, "MaxPool")):
        return ()
    sides = window(node)
    padded = any(ints(node, "pads", 2 * len(sides), 0))
    if set(sides) != {1} or padded or not is_explicit(node):
        return ()
    if not is_convolution(node) and (len(node.outputs) > 1 or node.outputs[0].is_graph_output()):
        return ()
    return ints(node, "strides", len(sides), 1)


def read_every_position(value: ir.Value) -> None:
    """Takes the stride from all readers of a value; a pool that did nothing else goes."""
    for reader, _ in tuple(value.uses()):
        if is_convolution(reader):
            set_strides(reader, [1] * len(window(reader)))
            continue
        reader.outputs[0].replace_all_uses_with(value)
        assert reader.graph is not None
        reader.graph.remove(reader, safe=True)


def insert_pick(body: ir.Graph, value: ir.Value, step: Step) -> ir.Node:
    """A pool that takes every `step`th position of a value."""
    name = f"{value.name}.every_{'x'.join(map(str, step))}"
    tape = Tape()
    output = ir.val(name, value.dtype, value.shape)
    shrink(output, step)
    attributes = {"kernel_shape": [1] * len(step), "strides": list(step)}
    tape.op("MaxPool", [value], attributes, name=name, output=output)
    insert_behind(body, value, tape.nodes)
    return tape.nodes[0]


def shrink(value: ir.Value, step: Step) -> None:
    """Gives a value the shape that is left of it; a side that is not a number becomes unknown."""
    shape = dims(value)
    if shape is None:
        return
    sides = [
        -(-side // every) if isinstance(side, int) else None
        for side, every in zip(shape[2:], step, strict=True)
    ]
    value.shape = ir.Shape([*shape[:2], *sides])


def is_convolution(node: ir.Node) -> bool:
    """Whether it is ONNX's convolution, or ONNX Runtime's with a sum and an activation inside."""
    return is_op(node, "Conv") or (node.domain == DOMAIN and node.op_type == "FusedConv")


def is_explicit(node: ir.Node) -> bool:
    """Whether padding and rounding are such that a stride changes nothing but which windows are."""
    attributes = node.attributes
    return attributes.get_string("auto_pad", "NOTSET") == "NOTSET" and not attributes.get_int(
        "ceil_mode", 0
    )


def window(node: ir.Node) -> Step:
    """The sides of a convolution's or a pool's window; empty where they are not known."""
    given = tuple(node.attributes.get_ints("kernel_shape", ()))
    if given or not is_convolution(node):
        return given
    sides = (dims(node.inputs[1]) or ())[2:]
    known = tuple(side for side in sides if isinstance(side, int))
    return known if len(known) == len(sides) else ()


def ints(node: ir.Node, name: str, count: int, default: int) -> Step:
    """An attribute of one number for each axis, or for each side of it."""
    return tuple(node.attributes.get_ints(name, (default,) * count))


def set_strides(node: ir.Node, strides: list[int]) -> None:
    """Gives a convolution or a pool its strides, one for each spatial axis."""
    node.attributes["strides"] = ir.AttrInt64s("strides", strides)
