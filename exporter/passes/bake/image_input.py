"""The image input of a graph while it becomes 8-bit pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.tape import Tape

from exporter.artifact import Channels, Preprocessing
from exporter.passes.values import dims, why_not_private
from exporter.runtime.layout import Layout, height_width_channels, layout_of

_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)

Floats = npt.NDArray[np.float64]


def why_no_image(value: ir.Value, preprocessing: Preprocessing) -> str | None:
    """Why an input is no float image with the channels that are normalised; None: it is one."""
    shape = dims(value)
    channels = len(preprocessing.mean)
    is_image = (
        shape is not None and len(shape) == 4 and height_width_channels(shape[1:])[2] == channels
    )
    if value.dtype in _FLOATS and is_image:
        return None
    return f"the input is {value.dtype} {shape}, no float image of {channels} channels"


@dataclass
class ImageInput:
    """The input, what its images are normalised with, and the nodes to stand between them."""

    body: ir.Graph
    value: ir.Value
    dtype: ir.DataType
    """Of the graph's float input, before it takes pixels."""
    layout: Layout
    mean: Floats
    """(C,), in units of pixels, in the order of the images' channels."""
    std: Floats
    reversed: bool
    """The graph takes the channels in the reverse order."""
    _tape: Tape = field(default_factory=Tape)

    @classmethod
    def of(cls, body: ir.Graph, preprocessing: Preprocessing) -> ImageInput:
        """The first input of a graph, which `why_no_image` has nothing against."""
        value = body.inputs[0]
        shape = dims(value)
        assert shape is not None
        assert value.dtype is not None
        is_reversed = preprocessing.channels is Channels.BGR
        mean, std = (
            255 * np.array(values[::-1] if is_reversed else values, np.float64)
            for values in (preprocessing.mean, preprocessing.std)
        )
        return cls(body, value, value.dtype, layout_of(shape[1:]), mean, std, is_reversed)

    @property
    def name(self) -> str:
        return str(self.value.name)

    @property
    def channels(self) -> int:
        return len(self.mean)

    def in_image_order(self, kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(O, C, kH, kW) weights of a convolution on the input, as one on the images has them."""
        return kernel[:, ::-1] if self.reversed else kernel

    def only_reader(self) -> ir.Node | str:
        """The one node that reads the image, or why there is none such."""
        return only_reader(self.value)

    def take_pixels(self) -> None:
        """Makes the input uint8 (N, H, W, C)."""
        assert self.value.shape is not None
        batch, *image = self.value.shape
        self.value.shape = ir.Shape([batch, *height_width_channels(image)])
        self.value.type = ir.TensorType(ir.DataType.UINT8)

    def add(self, op_type: str, inputs: list[ir.Value], output: str, **attributes: Any) -> ir.Value:
        """A node between image and graph, named as its output; shapes are left to inference."""
        return self._tape.op(op_type, inputs, attributes, name=output, output=ir.val(output))

    def to_nchw(self, pixels: ir.Value) -> ir.Value:
        """(N, H, W, C) -> (N, C, H, W)."""
        return self.add("Transpose", [pixels], f"{self.name}.nchw", perm=(0, 3, 1, 2))

    def insert_before(self, node: ir.Node) -> None:
        """Puts the nodes that were added into the graph."""
        self.body.insert_before(node, self._tape.nodes)


def only_reader(value: ir.Value) -> ir.Node | str:
    """The one node that reads a value, or why there is none such."""
    return why_not_private(value) or value.consumers()[0]
