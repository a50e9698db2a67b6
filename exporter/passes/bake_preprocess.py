"""Put the preprocessing into the graph: it then takes uint8 images (N, H, W, 3) at the crop size.

    x = (p / 255 - mean) / std,   y = Conv(x, W, b) with zero padding

Three forms, the first that applies:

*Folded* (the input's only reader is a float convolution):

    y = Conv(p - 255 mean, W / (255 std), b)

The mean is subtracted, not folded into the bias: a padded tap holds x = 0, that is, p = 255 mean,
and not p = 0, so a bias that assumes all taps would be wrong along the border.

*Identity* (INT8 `u8-asymmetric`): the pixel is the code, and nothing is quantized at run time.

    p ~ code,   y = Conv([p, v] - z, [W', W4], b'),   W' = 2^8 W / (255 std),   x_scale = 2^-8

z is one zero point for all channels, the nearest integer to the average of 255 mean. What is left
of each channel's own mean, 255 mean[c] - z, is taken out by a fourth channel that holds the
constant v and is padded with z like the others, hence weighs nothing where x is padding:

    W4 = -sum over c of W'[c] (255 mean[c] - z) / (v - z)

All channels together are then zero on the mean image and on padding, exactly. b' makes this hold
for the quantized weights, too: it is b less their answer to the mean image. The constant is
appended as a plane of a flattened image: runtimes would move a Transpose across any other form,
and appending to each pixel is slow.

*Prefix* (anything else: FP16, other dialects, NHWC inputs): (p - 255 mean) * 1 / (255 std) before
the graph as it is.

Must not fire: the input is no float image of three channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporter.artifact import PassReport, Preprocessing
from exporter.passes.qdq.arithmetic import quantize_bias, quantize_weight
from exporter.passes.qdq.nodes import float_constant, replace_bias, replace_weight
from exporter.passes.values import (
    add_constant,
    constant,
    dims,
    drop_unused_constants,
    is_op,
    why_not_private,
)
from exporter.runtime.layout import Layout, height_width_channels, layout_of

_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_SCALE = np.float32(2.0**-8)
"""Of a pixel in the identity form; a power of two, so that products with it are exact."""


def bake_preprocess(
    model: ir.Model, preprocessing: Preprocessing, exact: ir.Model | None = None
) -> PassReport:
    """Makes the graph's first input uint8 (N, H, W, 3); its name and the output stay.

    `exact` is the optimized float graph, whose weights the identity form quantizes. Where it came
    to the prefix, `refused` says why to no better form.
    """
    graph = model.graph
    image = graph.inputs[0]
    shape = dims(image)
    if (
        image.dtype not in _FLOATS
        or shape is None
        or len(shape) != 4
        or height_width_channels(shape[1:])[-1] != 3
    ):
        reason = f"the input is {image.dtype} {shape}, no float image of three channels"
        return PassReport("bake_preprocess", 0, ((str(image.name), reason),))
    baking = _Baking(
        graph,
        image,
        layout=layout_of(shape[1:]),
        mean=255 * np.array(preprocessing.mean, np.float64),
        std=255 * np.array(preprocessing.std, np.float64),
    )
    refused: tuple[tuple[str, str], ...] = ()
    why_not_folded = baking.fold()
    why_not_identity = baking.identity(exact) if why_not_folded else None
    if why_not_folded and why_not_identity:
        baking.prefix()
        reason = f"not folded: {why_not_folded}; no identity: {why_not_identity}"
        refused = ((str(image.name), reason),)
    drop_unused_constants(graph)
    return PassReport("bake_preprocess", 1, refused)


@dataclass
class _Baking:
    graph: ir.Graph
    image: ir.Value
    layout: Layout
    mean: np.ndarray
    """(3,), in units of pixels."""
    std: np.ndarray

    def fold(self) -> str | None:
        """The folded form, or why it does not apply."""
        conv = self._only_reader()
        if isinstance(conv, str):
            return conv
        if conv.op_type not in ("Conv", "FusedConv") or self.layout is not Layout.NCHW:
            return f"the input's reader is {conv.op_type}, no convolution in NCHW"
        weight = conv.inputs[1]
        kernel = float_constant(weight)
        if weight is None or kernel is None or len(weight.uses()) != 1 or kernel.shape[1] != 3:
            return f"the weight of {conv.name} is no constant of its own for three channels"
        folded = (kernel.astype(np.float64) / self.std[:, None, None]).astype(kernel.dtype)
        weight.const_value = ir.tensor(folded, name=weight.name)
        conv.replace_input_with(0, self._centred())
        return None

    def identity(self, exact: ir.Model | None) -> str | None:
        """The identity form, or why it does not apply."""
        quantize = self._only_reader()
        if isinstance(quantize, str):
            return quantize
        if not is_op(quantize, "QuantizeLinear") or self.layout is not Layout.NCHW:
            return f"the input's reader is {quantize.op_type}, no QuantizeLinear in NCHW"
        zero_point = constant(quantize.inputs[2]) if len(quantize.inputs) > 2 else None
        if zero_point is None or zero_point.dtype != np.uint8:
            return "the input is not quantized to uint8"
        dequantize = _only_reader(quantize.outputs[0])
        conv = _only_reader(dequantize.outputs[0]) if isinstance(dequantize, ir.Node) else None
        if not isinstance(conv, ir.Node) or not is_op(conv, "Conv"):
            return "what is quantized is not one convolution's alone"
        shape = dims(self.image)
        assert shape is not None
        if not all(isinstance(size, int) for size in shape[2:]):
            return "the image's size is dynamic"
        twin = None
        if exact is not None:
            twin = next((node for node in exact.graph if node.name == conv.name), None)
        kernel = float_constant(twin.inputs[1]) if twin is not None else None
        if twin is None or kernel is None or len(conv.inputs) != 3 or kernel.shape[1] != 3:
            return f"the exact float weights of {conv.name} are not at hand"
        given = float_constant(twin.inputs[2]) if len(twin.inputs) > 2 else None
        bias = np.zeros(len(kernel)) if given is None else given.astype(np.float64).reshape(-1)
        self._quantize_stem(conv, kernel.astype(np.float64), bias)
        return None

    def _quantize_stem(self, conv: ir.Node, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Makes `conv` read the pixels themselves, with a fourth channel for the mean."""
        zero = int(np.rint(self.mean.mean()))
        filler = 255 if zero < 128 else 0
        rest = self.mean - zero  # (3,)
        scaled = kernel / (self.std * float(_SCALE))[:, None, None]
        fourth = -(scaled * rest[:, None, None]).sum(axis=1, keepdims=True) / (filler - zero)
        wide = np.concatenate([scaled, fourth], axis=1)  # (O, 4, kH, kW)
        weight = quantize_weight(wide, 0, bias=bias, x_scale=_SCALE)
        values = weight.codes * weight.scale.astype(np.float64)[:, None, None, None]
        offsets = np.append(rest, filler - zero)
        on_mean_image = (values.sum(axis=(2, 3)) @ offsets) * float(_SCALE)
        codes, scale = quantize_bias(bias - on_mean_image, _SCALE, weight.scale)
        names = [
            str(v.name).removesuffix(".dequantized") for v in conv.inputs[1:3] if v is not None
        ]
        old = [v.producer() for v in conv.inputs[1:3] if v is not None]
        conv.replace_input_with(1, None)
        conv.replace_input_with(2, None)
        self.graph.remove([node for node in old if node is not None], safe=True)
        drop_unused_constants(self.graph)  # their names are the new constants'
        conv.replace_input_with(1, add_constant(self.graph, names[0], wide))
        replace_weight(self.graph, conv, 1, 0, weight)
        replace_bias(self.graph, conv, names[1], codes, scale)
        self._feed_codes(conv, zero, filler)

    def _feed_codes(self, conv: ir.Node, zero: int, filler: int) -> None:
        """From the images to `conv`: NCHW, a plane of `filler` appended, DequantizeLinear."""
        quantize = self._only_reader()
        assert isinstance(quantize, ir.Node)
        dequantize = _only_reader(quantize.outputs[0])
        assert isinstance(dequantize, ir.Node)
        name = str(self.image.name)
        self._take_images()
        assert self.image.shape is not None
        batch, height, width, _ = self.image.shape
        assert isinstance(height, int)
        assert isinstance(width, int)
        uint8, plane = ir.DataType.UINT8, height * width
        planes = self._to_nchw(conv, self.image)
        flat = self._node(
            conv, "Flatten", [planes], f"{name}.flat", uint8, [batch, 3 * plane], axis=1
        )
        pads = add_constant(self.graph, f"{name}.pads", np.array([0, 0, 0, plane], np.int64))
        value = add_constant(self.graph, f"{name}.filler", np.array(filler, np.uint8))
        padded = self._node(
            conv, "Pad", [flat, pads, value], f"{name}.padded", uint8, [batch, 4 * plane]
        )
        target = add_constant(
            self.graph, f"{name}.shape", np.array([0, 4, height, width], np.int64)
        )
        codes = self._node(
            conv, "Reshape", [padded, target], f"{name}.codes", uint8, [batch, 4, height, width]
        )
        scale = add_constant(self.graph, f"{name}.pixel_scale", np.asarray(_SCALE))
        point = add_constant(self.graph, f"{name}.pixel_zero_point", np.array(zero, np.uint8))
        pixels = self._node(
            conv,
            "DequantizeLinear",
            [codes, scale, point],
            f"{name}.pixels",
            ir.DataType.FLOAT,
            [batch, 4, height, width],
        )
        conv.replace_input_with(0, pixels)
        self.graph.remove([dequantize, quantize], safe=True)

    def prefix(self) -> None:
        """Normalises in front of the graph as it is."""
        readers = list(self.image.uses())
        dtype = self.image.dtype
        assert dtype is not None
        centred = self._centred()
        assert centred.shape is not None
        factor = self._per_channel(f"{self.image.name}.one_over_std", 1 / self.std, dtype)
        before = readers[0][0]
        normalised = self._node(
            before,
            "Mul",
            [centred, factor],
            f"{self.image.name}.normalised",
            dtype,
            list(centred.shape),
        )
        for node, index in readers:
            node.replace_input_with(index, normalised)

    def _centred(self) -> ir.Value:
        """Pixels less 255 mean, in the graph's type and layout; the input becomes uint8 NHWC."""
        dtype = self.image.dtype
        assert dtype is not None
        name = str(self.image.name)
        before = next(iter(self.image.uses()))[0]
        self._take_images()
        assert self.image.shape is not None
        # TensorRT takes bytes into a Cast alone, so that comes before the Transpose.
        pixels = self._node(
            before, "Cast", [self.image], f"{name}.float", dtype, list(self.image.shape), to=dtype
        )
        if self.layout is Layout.NCHW:
            pixels = self._to_nchw(before, pixels)
        assert pixels.shape is not None
        mean = self._per_channel(f"{name}.mean", self.mean, dtype)
        return self._node(
            before, "Sub", [pixels, mean], f"{name}.centred", dtype, list(pixels.shape)
        )

    def _take_images(self) -> None:
        """Makes the input uint8 (N, H, W, 3)."""
        assert self.image.shape is not None
        batch, *image = self.image.shape
        self.image.shape = ir.Shape([batch, *height_width_channels(image)])
        self.image.type = ir.TensorType(ir.DataType.UINT8)

    def _to_nchw(self, before: ir.Node, pixels: ir.Value) -> ir.Value:
        assert pixels.shape is not None
        assert pixels.dtype is not None
        batch, height, width, channels = pixels.shape
        return self._node(
            before,
            "Transpose",
            [pixels],
            f"{self.image.name}.nchw",
            pixels.dtype,
            [batch, channels, height, width],
            perm=(0, 3, 1, 2),
        )

    def _per_channel(self, name: str, values: np.ndarray, dtype: ir.DataType) -> ir.Value:
        shape = (1, 3, 1, 1) if self.layout is Layout.NCHW else (1, 1, 1, 3)
        return add_constant(self.graph, name, values.reshape(shape).astype(dtype.numpy()))

    def _only_reader(self) -> ir.Node | str:
        return _only_reader(self.image)

    def _node(
        self,
        before: ir.Node,
        op_type: str,
        inputs: list[ir.Value],
        name: str,
        dtype: ir.DataType,
        shape: Sequence[int | ir.SymbolicDim | None],
        **attributes: object,
    ) -> ir.Value:
        """A new node in front of `before`; its output carries its name."""
        node = ir.node(op_type, inputs, attributes, name=name)  # type: ignore[arg-type]
        output = node.outputs[0]
        output.name, output.type, output.shape = name, ir.TensorType(dtype), ir.Shape(shape)
        self.graph.insert_before(before, node)
        return output


def _only_reader(value: ir.Value) -> ir.Node | str:
    """The one node that reads a value, or why there is none such."""
    return why_not_private(value) or value.consumers()[0]
