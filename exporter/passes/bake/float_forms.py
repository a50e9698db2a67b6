"""Normalise in float: folded into the first convolution, or in front of the graph.

Folded:

    y = Conv(p - 255 mean, W / (255 std), b)

The mean is subtracted, not folded into the bias: a padded tap holds x = 0, that is, p = 255 mean,
and not p = 0, so a bias that assumes all taps would be wrong along the border.

Prefix: (p - 255 mean) * 1 / (255 std) before the graph as it is.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter.passes.bake.image_input import Floats, ImageInput
from exporter.passes.qdq.nodes import float_constant
from exporter.passes.values import add_constant
from exporter.runtime.layout import Layout


def fold(image: ImageInput) -> str | None:
    """The folded form, or why it does not apply."""
    conv = image.only_reader()
    if isinstance(conv, str):
        return conv
    if conv.op_type not in ("Conv", "FusedConv") or image.layout is not Layout.NCHW:
        return f"the input's reader is {conv.op_type}, no convolution in NCHW"
    weight = conv.inputs[1]
    kernel = float_constant(weight)
    channels = image.channels
    if weight is None or kernel is None or len(weight.uses()) != 1 or kernel.shape[1] != channels:
        return f"the weight of {conv.name} is no constant of its own for {channels} channels"
    exact = image.in_image_order(kernel).astype(np.float64)
    folded = (exact / image.std[:, None, None]).astype(kernel.dtype)
    weight.const_value = ir.tensor(folded, name=weight.name)
    conv.replace_input_with(0, _centred(image))
    image.insert_before(conv)
    return None


def prefix(image: ImageInput) -> None:
    """Normalises in front of the graph as it is."""
    readers = list(image.value.uses())
    centred = _centred(image)
    factor = _per_channel(image, "one_over_std", 1 / image.std)
    normalised = image.add("Mul", [centred, factor], f"{image.name}.normalised")
    if image.reversed:
        order = np.arange(image.channels, dtype=np.int64)[::-1].copy()
        indices = add_constant(image.body, f"{image.name}.order", order)
        axis = 1 if image.layout is Layout.NCHW else 3
        normalised = image.add("Gather", [normalised, indices], f"{image.name}.reversed", axis=axis)
    for node, index in readers:
        node.replace_input_with(index, normalised)
    image.insert_before(image.body[0])


def _centred(image: ImageInput) -> ir.Value:
    """Pixels less 255 mean, in the graph's type and layout; the input becomes uint8 NHWC."""
    image.take_pixels()
    # TensorRT takes bytes into a Cast alone, so that comes before the Transpose.
    pixels = image.add("Cast", [image.value], f"{image.name}.float", to=image.dtype)
    if image.layout is Layout.NCHW:
        pixels = image.to_nchw(pixels)
    return image.add(
        "Sub", [pixels, _per_channel(image, "mean", image.mean)], f"{image.name}.centred"
    )


def _per_channel(image: ImageInput, name: str, values: Floats) -> ir.Value:
    shape = (1, -1, 1, 1) if image.layout is Layout.NCHW else (1, 1, 1, -1)
    array = values.reshape(shape).astype(image.dtype.numpy())
    return add_constant(image.body, f"{image.name}.{name}", array)
