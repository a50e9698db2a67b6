"""Rearrange 2x2 pixels into channels in front of a strided 8-bit first convolution.

    Conv(x, W, stride 2)                    =    Conv(s2d(x), W', stride 1)
    x (N, 3, H, W), W (64, 3, 7, 7)              s2d(x) (N, 12, H/2, W/2), W' (64, 12, 4, 4)

Each output is the same sum of the same products, so the result is equal bit for bit; W' has zeros
where the window was widened to even taps. ONNX Runtime's 8-bit convolution copies pixel by pixel
for three channels: the stem of ResNet-50 takes 2.7 times as long as in this form, 7 % of the whole
network on two cores (docs/decisions/0006).

The rearrangement stands before DequantizeLinear, on bytes, as two transposes of which each moves
one axis: the one that moves both at once is five times slower. Must not fire: the dequantized input
has another reader; its size is not known (the batch may be dynamic) or odd; dilations, groups,
strides other than 2; more than four channels: only the image has so few.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from exporter.artifact import PassReport
from exporter.passes.qdq.nodes import quantized_weight
from exporter.passes.values import (
    Array,
    add_constant,
    dims,
    is_op,
    replace_constant,
    why_not_private,
)

MOST_CHANNELS = 4
"""With more input channels the time no longer goes into the runtime's copying."""


def space_to_depth_stem(graph: ir.Model) -> PassReport:
    """Rewrites the convolution of the image; `refused` says why not, and why no other one."""
    refused: list[tuple[str, str]] = []
    fired = 0
    for conv in [node for node in graph.graph if is_op(node, "Conv")]:
        dequantize = _producer(conv.inputs[0], "DequantizeLinear")
        if dequantize is None:
            continue
        reason = _why_not(conv, dequantize)
        if reason is not None:
            refused.append((str(conv.name), reason))
            continue
        _rewrite(graph.graph, conv, dequantize)
        fired += 1
    return PassReport("space_to_depth_stem", fired, tuple(refused))


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    producer = value.producer() if value is not None else None
    return producer if is_op(producer, op_type) else None


def _why_not(conv: ir.Node, dequantize: ir.Node) -> str | None:
    shared = why_not_private(dequantize.outputs[0])
    if shared:
        return shared
    codes = dequantize.inputs[0]
    if codes is None or codes.dtype not in (ir.DataType.UINT8, ir.DataType.INT8):
        return "its input is not in 8 bits"
    if quantized_weight(conv) is None:
        return "its weight is no quantized constant of its own"
    shape = dims(conv.inputs[0])
    if shape is None or len(shape) != 4 or not all(isinstance(d, int) for d in shape[1:]):
        return f"its input's size is not known: {shape}"
    channels, *size = (int(str(d)) for d in shape[1:])
    if channels > MOST_CHANNELS or conv.attributes.get_int("group", 1) != 1:
        return f"{channels} channels in {conv.attributes.get_int('group', 1)} groups"
    if any(n % 2 for n in size):
        return f"its input's size is odd: {size}"
    if _ints(conv, "strides", (1, 1)) != (2, 2) or _ints(conv, "dilations", (1, 1)) != (1, 1):
        return "its stride is not 2, or it is dilated"
    if conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return "its padding is not explicit"
    if any(_axis(conv, axis)[2] < 0 for axis in (0, 1)):
        return "its window leaves part of the input out"
    return None


def _ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints(name, default))


def _axis(conv: ir.Node, axis: int) -> tuple[int, int, int, int]:
    """Along one axis: zero taps to put first, padding before and after, and the new kernel.

    The window must start at an even position for its taps to fall into whole pairs.
    """
    shape = dims(conv.inputs[0])
    kernel = dims(conv.inputs[1])
    assert shape is not None
    assert kernel is not None
    size, taps = int(str(shape[2 + axis])), int(str(kernel[2 + axis]))
    before, after = _ints(conv, "pads", (0, 0, 0, 0))[axis::2]
    outputs = (size + before + after - taps) // 2 + 1
    first = before % 2
    pairs = (first + taps + 1) // 2
    pad = (before + first) // 2
    return first, pad, outputs - 1 + pairs - size // 2 - pad, pairs


def _rewrite(body: ir.Graph, conv: ir.Node, dequantize: ir.Node) -> None:
    codes, shape = dequantize.inputs[0], dims(conv.inputs[0])
    assert codes is not None
    assert shape is not None
    batch = shape[0]
    channels, height, width = (int(str(d)) for d in shape[1:])
    (top, pad_top, pad_bottom, rows), (left, pad_left, pad_right, columns) = (
        _axis(conv, axis) for axis in (0, 1)
    )
    _rearrange_weight(body, conv, (top, rows), (left, columns))
    for name, value in (
        ("kernel_shape", (rows, columns)),
        ("strides", (1, 1)),
        ("pads", (pad_top, pad_left, pad_bottom, pad_right)),
    ):
        conv.attributes[name] = ir.AttrInt64s(name, value)

    h, w = height // 2, width // 2
    tape = Tape()

    def append(
        op: str, x: ir.Value, sizes: tuple[int, ...], perm: tuple[int, ...] | None = None
    ) -> ir.Value:
        name = f"{conv.name}.space_to_depth_{len(tape.nodes)}"
        output = ir.val(name, x.dtype, (batch, *sizes))
        if perm is not None:
            return tape.op(op, [x], {"perm": perm}, name=name, output=output)
        # 0 takes the batch as it is.
        target = add_constant(body, f"{name}.shape", np.array((0, *sizes), np.int64))
        return tape.op(op, [x, target], name=name, output=output)

    x = append("Reshape", codes, (channels, h, 2, width))
    x = append("Transpose", x, (channels, 2, h, width), (0, 1, 3, 2, 4))
    x = append("Reshape", x, (channels * 2, h * w * 2))
    x = append("Transpose", x, (h * w * 2, channels * 2), (0, 2, 1))
    x = append("Reshape", x, (h, w, 4 * channels))
    x = append("Transpose", x, (4 * channels, h, w), (0, 3, 1, 2))
    body.insert_before(dequantize, tape.nodes)
    dequantize.replace_input_with(0, x)
    dequantize.outputs[0].shape = ir.Shape([batch, 4 * channels, h, w])


def _rearrange_weight(
    body: ir.Graph, conv: ir.Node, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """(O, C, kH, kW) -> (O, 4 C, kH', kW'), channels in the order of the image's: dx, C, dy."""
    weight = quantized_weight(conv)
    assert weight is not None
    dequantize, given = weight
    out, channels, taps_h, taps_w = given.shape
    wide: Array = np.zeros((out, channels, 2 * rows[1], 2 * columns[1]), given.dtype)
    wide[:, :, rows[0] : rows[0] + taps_h, columns[0] : columns[0] + taps_w] = given
    pairs = wide.reshape(out, channels, rows[1], 2, columns[1], 2)
    rearranged = pairs.transpose(0, 5, 1, 3, 2, 4).reshape(out, 4 * channels, rows[1], columns[1])
    replace_constant(body, dequantize, 0, np.ascontiguousarray(rearranged))
    dequantize.outputs[0].shape = ir.Shape(rearranged.shape)
