"""From a picture to a model's input, pixel for pixel as torchvision's evaluation transforms do it.

Resize the shorter side or both and crop the centre (`runtime/pictures.py`), then
`x = (pixel / 255 - mean) / std`, computed step by step in float32 as torchvision does. The table
that serves (`runtime/images.py`) rounds once instead and differs in the last bit of two values in
three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from exporter.artifact import Channels, ModelSpec, Preprocessing
from exporter.runtime.layout import Layout, layout_of
from exporter.runtime.pictures import Framing, resize_and_crop, upright

Array = npt.NDArray[Any]


def prepare(image: Image.Image, contract: Preprocessing, spec: ModelSpec) -> Array:
    """One picture as the model takes it: resized, cropped, scaled, normalised, laid out.

    `uint8` inputs take the pixels themselves.

    Raises:
        exporter.runtime.InputError: the picture has another size and the contract does not resize,
            or its pixels have more than 8 bits.
    """
    grey = contract.channels is Channels.GREY
    seen = upright(image, grey=grey, exif_orientation=contract.exif_orientation)
    framing = Framing(contract.resize, contract.crop, contract.interpolation)
    pixels = np.asarray(resize_and_crop(seen, framing))
    prepared: Array = normalise(np.atleast_3d(pixels)[None], contract, spec)[0]
    return prepared


def in_model_order(pixels: Array, channels: Channels) -> Array:
    """Pixels (..., C) of a picture with their channels as the model takes them, and back again."""
    return pixels[..., ::-1] if channels is Channels.BGR else pixels


def normalise(pixels: npt.NDArray[np.uint8], contract: Preprocessing, spec: ModelSpec) -> Array:
    """(N, H, W, C) uint8 -> (N, ...) in the model's layout, type and order of channels."""
    values: Array = in_model_order(pixels, contract.channels)
    if spec.input.dtype != "uint8":
        values = scale(values, contract.mean, contract.std).astype(spec.input.dtype)
    if layout_of(spec.image_shape) is Layout.NCHW:
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values)


def scale(pixels: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Array:
    """`(pixel / 255 - mean) / std` in float32, for pixels with the channels last."""
    scaled: Array = pixels.astype(np.float32) / np.float32(255.0)
    scaled -= np.array(mean, np.float32)
    scaled /= np.array(std, np.float32)
    return scaled
