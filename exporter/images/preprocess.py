"""From a picture to a model's input, pixel for pixel as torchvision's evaluation transforms do it.

Resize the shorter side or both (Pillow, antialiased), crop the centre,
`x = (pixel / 255 - mean) / std`, computed step by step in float32 as torchvision does. The table
that serves (`runtime/images.py`) rounds once instead and differs in the last bit of two values in
three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from exporter.artifact import Channels, Interpolation, ModelSpec, Preprocessing
from exporter.errors import InputError
from exporter.runtime.layout import Layout, layout_of

Array = npt.NDArray[Any]

FILTERS: Mapping[Interpolation, Image.Resampling] = {
    kind: Image.Resampling[kind.upper()] for kind in Interpolation if kind is not Interpolation.NONE
}
"""Pillow's filters by the names that preprocessing contracts use."""


def prepare(image: Image.Image, contract: Preprocessing, spec: ModelSpec) -> Array:
    """One picture as the model takes it: resized, cropped, scaled, normalised, laid out.

    `uint8` inputs take the pixels themselves.

    Raises:
        InputError: the picture has another size and the contract does not resize.
    """
    mode = "L" if contract.channels is Channels.GREY else "RGB"
    pixels = np.asarray(resize_and_crop(image.convert(mode), contract))
    prepared: Array = normalise(np.atleast_3d(pixels)[None], contract, spec)[0]
    return prepared


def resize_and_crop(picture: Image.Image, contract: Preprocessing) -> Image.Image:
    """The centre of the picture, `crop_size` pixels.

    The longer side is rounded down and the margin to even, as `torchvision.transforms` does.
    """
    high, wide = contract.crop_size
    if contract.resize is None:
        if picture.size != (wide, high):
            raise InputError(
                f"the picture has {picture.width}x{picture.height} pixels, "
                f"the model takes {wide}x{high} without resizing"
            )
        return picture
    if isinstance(contract.resize, tuple):
        height, width = contract.resize
    else:
        shorter = min(picture.size)
        width, height = (int(contract.resize * length / shorter) for length in picture.size)
    resized = picture.resize((width, height), FILTERS[contract.interpolation])
    left, top = round((width - wide) / 2), round((height - high) / 2)
    return resized.crop((left, top, left + wide, top + high))


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
