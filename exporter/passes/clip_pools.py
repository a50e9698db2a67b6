"""A pool whose last window would begin in the padding, without that window.

    MaxPool(ceil_mode=1), AveragePool(ceil_mode=1)  -> the same with ceil_mode=0 and end pads that
                                                       reach just as far as its last window

ONNX, PyTorch and ONNX Runtime leave such a window out. onnx's shape inference counts it before
opset 22, and OpenVINO computes it: NaN as an average, -inf as a maximum.
Must not fire: rounding up adds no window, or one that begins inside the image; the size of the
image is not known; an average counts its padding and a window ends behind that; the padding would
be as large as the kernel (of a dilated window), which ONNX Runtime refuses.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport
from exporter.passes.values import dims, is_op


class _Axis(NamedTuple):
    """The windows of a pool along one axis."""

    size: int
    taps: int
    dilation: int
    stride: int
    begin: int
    end: int

    @property
    def window(self) -> int:
        """From its first pixel to its last."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def counted(self) -> int:
        """How many windows rounding up makes."""
        return -(-(self.size + self.begin + self.end - self.window) // self.stride) + 1

    @property
    def kept(self) -> int:
        """How many of them begin in the image or before it."""
        return min(self.counted, -(-(self.size + self.begin) // self.stride))

    @property
    def reach(self) -> int:
        """How much padding the last one needs behind the image."""
        last = (self.kept - 1) * self.stride - self.begin
        return max(0, last + self.window - self.size)


def clip_pools(graph: ir.Model) -> PassReport:
    """Counts as fired each pool that was clipped; shapes behind it that are wrong are corrected."""
    fired = 0
    for index, pool in enumerate(graph.graph):
        axes = _axes(pool)
        if all(axis.kept == axis.counted for axis in axes):
            continue
        counts_padding = pool.attributes.get_int("count_include_pad", 0)
        if any(a.reach >= a.taps or (counts_padding and a.reach > a.end) for a in axes):
            continue
        ends = [axis.reach for axis in axes]
        pool.attributes.add(ir.AttrInt64("ceil_mode", 0))
        pool.attributes.add(ir.AttrInt64s("pads", [*(axis.begin for axis in axes), *ends]))
        fired += 1
        known = dims(pool.outputs[0]) or ()
        if known[2:] != tuple(axis.kept for axis in axes):
            for node in islice(graph.graph, index, None):
                for value in node.outputs:
                    value.shape = None
            common.ShapeInferencePass()(graph)
    return PassReport("clip_pools", fired)


def _axes(pool: ir.Node) -> list[_Axis]:
    """The axes of a pool that rounds up, where their sizes are known; else none."""
    attributes = pool.attributes
    if not is_op(pool, "MaxPool", "AveragePool") or not attributes.get_int("ceil_mode", 0):
        return []
    if attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return []  # the padding is as large as its windows need
    sizes = (dims(pool.inputs[0]) or ())[2:]
    kernel = attributes.get_ints("kernel_shape", ())
    ones, zeros = [1] * len(kernel), [0] * 2 * len(kernel)
    strides, dilations = (attributes.get_ints(name, ones) for name in ("strides", "dilations"))
    pads = attributes.get_ints("pads", zeros)
    begins, ends = pads[: len(kernel)], pads[len(kernel) :]
    return [
        _Axis(size, taps, apart, stride, begin, end)
        for size, taps, apart, stride, begin, end in zip(
            sizes, kernel, dilations, strides, begins, ends, strict=False
        )
        if isinstance(size, int)
    ]
