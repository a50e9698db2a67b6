"""From a picture to a model's input, pixel for pixel as torchvision's evaluation transforms do it.

Resize the shorter side (Pillow, antialiased), crop the centre, `x = (pixel / 255 - mean) / std`,
computed step by step in float32 as torchvision does. The table that serves (`runtime/images.py`)
rounds once instead and differs in the last bit of two values in three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from exporter.artifact import ModelSpec, Preprocessing
from exporter.errors import InputError
from exporter.runtime.layout import Layout, layout_of

Array = npt.NDArray[Any]

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
"""Pillow's filters by the names that preprocessing contracts use."""


def prepare(image: Image.Image, contract: Preprocessing, spec: ModelSpec) -> Array:
    """One picture as the model takes it: resized, cropped, scaled, normalised, laid out.

    `uint8` inputs take the pixels themselves.

    Raises:
        InputError: the picture has another size and the contract does not resize.
    """
    pixels = np.asarray(resize_and_crop(image.convert("RGB"), contract))
    prepared: Array = normalise(pixels[None], contract, spec)[0]
    return prepared


def resize_and_crop(picture: Image.Image, contract: Preprocessing) -> Image.Image:
    """The centre of the picture, (crop, crop) pixels.

    The longer side is rounded down and the margin to even, as `torchvision.transforms` does.
    """
    side = contract.crop
    if contract.resize is None:
        if picture.size != (side, side):
            raise InputError(
                f"the picture has {picture.width}x{picture.height} pixels, "
                f"the model takes {side}x{side} without resizing"
            )
        return picture
    shorter = min(picture.size)
    width, height = (int(contract.resize * length / shorter) for length in picture.size)
    resized = picture.resize((width, height), FILTERS[contract.interpolation])
    left, top = round((width - side) / 2), round((height - side) / 2)
    return resized.crop((left, top, left + side, top + side))


def normalise(pixels: npt.NDArray[np.uint8], contract: Preprocessing, spec: ModelSpec) -> Array:
    """(N, H, W, 3) uint8 -> (N, ...) in the model's layout and type."""
    values: Array = pixels
    if spec.input.dtype != "uint8":
        values = scale(pixels, contract.mean, contract.std).astype(spec.input.dtype)
    if layout_of(spec.image_shape) is Layout.NCHW:
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values)


def scale(pixels: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Array:
    """`(pixel / 255 - mean) / std` in float32, for pixels with the channels last."""
    scaled: Array = pixels.astype(np.float32) / np.float32(255.0)
    scaled -= np.array(mean, np.float32)
    scaled /= np.array(std, np.float32)
    return scaled
