"""Take the pixel itself for the code of the first quantized convolution (INT8 `u8-asymmetric`).

Nothing is quantized at run time:

    p ~ code,   y = Conv([p, v] - z, [W', W4], b'),   W' = 2^8 W / (255 std),   x_scale = 2^-8

z is one zero point for all channels, the nearest integer to the average of 255 mean. What is left
of each channel's own mean, 255 mean[c] - z, is taken out by a fourth channel that holds the
constant v and is padded with z like the others, hence weighs nothing where x is padding:

    W4 = -sum over c of W'[c] (255 mean[c] - z) / (v - z)

All channels together are then zero on the mean image and on padding, exactly. b' makes this hold
for the quantized weights, too: it is b less their answer to the mean image. The constant is
appended as a plane of a flattened image: runtimes would move a Transpose across any other form,
and appending to each pixel is slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from exporter.passes.bake.image_input import Floats, ImageInput, only_reader
from exporter.passes.qdq.arithmetic import quantize_bias, quantize_weight
from exporter.passes.qdq.nodes import float_constant, replace_bias, replace_weight
from exporter.passes.values import add_constant, constant, dims, is_op
from exporter.runtime.layout import Layout

_SCALE: Final = np.float32(2.0**-8)
"""The scale of a pixel: a power of two, so that products with it are exact."""


@dataclass(frozen=True)
class _Stem:
    """The quantized first convolution, and its weights as they were before."""

    quantize: ir.Node
    dequantize: ir.Node
    conv: ir.Node
    kernel: Floats
    """(O, C, kH, kW), of channels in the order of the images'."""
    bias: Floats


def take_pixels_as_codes(image: ImageInput, exact: ir.Model | None) -> str | None:
    """The identity form, or why it does not apply. `exact` has the stem's float weights."""
    stem = _find_stem(image, exact)
    if isinstance(stem, str):
        return stem
    zero = int(np.rint(image.mean.mean()))
    filler = 255 if zero < 128 else 0
    _quantize_stem(image, stem, zero, filler)
    stem.conv.replace_input_with(0, _pixels(image, zero, filler))
    image.insert_before(stem.conv)
    image.body.remove([stem.dequantize, stem.quantize], safe=True)
    return None


def _find_stem(image: ImageInput, exact: ir.Model | None) -> _Stem | str:
    quantize = image.only_reader()
    if isinstance(quantize, str):
        return quantize
    if not is_op(quantize, "QuantizeLinear") or image.layout is not Layout.NCHW:
        return f"the input's reader is {quantize.op_type}, no QuantizeLinear in NCHW"
    zero_point = constant(quantize.inputs[2]) if len(quantize.inputs) > 2 else None
    if zero_point is None or zero_point.dtype != np.uint8:
        return "the input is not quantized to uint8"
    dequantize = only_reader(quantize.outputs[0])
    conv = only_reader(dequantize.outputs[0]) if isinstance(dequantize, ir.Node) else None
    if (
        not isinstance(dequantize, ir.Node)
        or not isinstance(conv, ir.Node)
        or not is_op(conv, "Conv")
    ):
        return "what is quantized is not one convolution's alone"
    shape = dims(image.value)
    assert shape is not None
    if not all(isinstance(size, int) for size in shape[2:]):
        return "the image's size is dynamic"
    twin = None
    if exact is not None:
        twin = next((node for node in exact.graph if node.name == conv.name), None)
    kernel = float_constant(twin.inputs[1]) if twin is not None else None
    if twin is None or kernel is None or len(conv.inputs) != 3 or kernel.shape[1] != image.channels:
        return f"the exact float weights of {conv.name} are not at hand"
    given = float_constant(twin.inputs[2]) if len(twin.inputs) > 2 else None
    bias = np.zeros(len(kernel)) if given is None else given.astype(np.float64).reshape(-1)
    kernel = image.in_image_order(kernel).astype(np.float64)
    return _Stem(quantize, dequantize, conv, kernel, bias)


def _quantize_stem(image: ImageInput, stem: _Stem, zero: int, filler: int) -> None:
    """Makes the convolution read the pixels themselves, with one more channel for the mean."""
    body, conv = image.body, stem.conv
    rest = image.mean - zero  # (C,)
    scaled = stem.kernel / (image.std * float(_SCALE))[:, None, None]
    last = -(scaled * rest[:, None, None]).sum(axis=1, keepdims=True) / (filler - zero)
    wide = np.concatenate([scaled, last], axis=1)  # (O, C + 1, kH, kW)
    weight = quantize_weight(wide, 0, bias=stem.bias, x_scale=_SCALE)
    values = weight.codes * weight.scale.astype(np.float64)[:, None, None, None]
    offsets = np.append(rest, filler - zero)
    on_mean_image = (values.sum(axis=(2, 3)) @ offsets) * float(_SCALE)
    codes, scale = quantize_bias(stem.bias - on_mean_image, _SCALE, weight.scale)
    weight_name, bias_name = (_forget(body, conv, index) for index in (1, 2))
    conv.replace_input_with(1, add_constant(body, weight_name, wide))
    replace_weight(body, conv, 1, 0, weight)
    replace_bias(body, conv, bias_name, codes, scale)


def _forget(body: ir.Graph, conv: ir.Node, index: int) -> str:
    """Removes a dequantized constant that the convolution reads; returns the constant's name."""
    value = conv.inputs[index]
    assert value is not None
    dequantize = value.producer()
    conv.replace_input_with(index, None)
    if dequantize is not None and not value.uses():
        constants = [v for v in dequantize.inputs if v is not None]
        body.remove(dequantize, safe=True)
        for unused in constants:
            if not unused.uses():  # its name is the new constant's
                del body.initializers[str(unused.name)]
    return str(value.name).removesuffix(".dequantized")


def _pixels(image: ImageInput, zero: int, filler: int) -> ir.Value:
    """From the images to the stem: NCHW, a plane of `filler` appended, DequantizeLinear."""
    body, name = image.body, image.name
    image.take_pixels()
    assert image.value.shape is not None
    _, height, width, _ = image.value.shape
    assert isinstance(height, int)
    assert isinstance(width, int)
    pads = np.array([0, 0, 0, height * width], np.int64)
    flat = image.add("Flatten", [image.to_nchw(image.value)], f"{name}.flat", axis=1)
    padded = image.add(
        "Pad",
        [
            flat,
            add_constant(body, f"{name}.pads", pads),
            add_constant(body, f"{name}.filler", np.array(filler, np.uint8)),
        ],
        f"{name}.padded",
    )
    target = np.array([0, image.channels + 1, height, width], np.int64)
    codes = image.add(
        "Reshape", [padded, add_constant(body, f"{name}.shape", target)], f"{name}.codes"
    )
    return image.add(
        "DequantizeLinear",
        [
            codes,
            add_constant(body, f"{name}.pixel_scale", np.asarray(_SCALE)),
            add_constant(body, f"{name}.pixel_zero_point", np.array(zero, np.uint8)),
        ],
        f"{name}.pixels",
    )
