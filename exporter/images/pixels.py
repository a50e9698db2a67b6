"""From normalised inputs back to the 8-bit images that they were made of.

`x = (pixel / 255 - mean) / std` has 256 values a channel, so an input that came from an image gives
the image back exactly. Goldens are kept as images as well, wherever they came from images: what
takes images (a baked engine, the browser) then replays the very same goldens.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.artifact import Preprocessing
from exporter.images.preprocess import in_model_order
from exporter.runtime.layout import Layout, height_width_channels, layout_of

_EXACT: Final = 1e-3
"""How far from a whole pixel value a recovered one may lie: float32's rounding gives under 1e-4."""


def recover_pixels(
    inputs: npt.NDArray[Any], contract: Preprocessing
) -> npt.NDArray[np.uint8] | None:
    """(N, C, H, W) or (N, H, W, C) normalised inputs -> (N, H, W, C) uint8 images.

    None where the inputs came from no 8-bit images: synthetic noise, ready tensors.
    """
    if inputs.ndim != 4 or height_width_channels(inputs.shape[1:])[-1] != len(contract.mean):
        return None
    images, exact = nearest_pixels(inputs, contract)
    return images if exact else None


def nearest_pixels(
    inputs: npt.NDArray[Any], contract: Preprocessing
) -> tuple[npt.NDArray[np.uint8], bool]:
    """(N, C, H, W) or (N, H, W, C) normalised inputs -> (N, H, W, C) uint8 images, and whether
    the inputs were images to begin with; where not, each value becomes the nearest pixel.
    """
    nchw = layout_of(inputs.shape[1:]) is Layout.NCHW
    channels_last = inputs.transpose(0, 2, 3, 1) if nchw else inputs
    exact = channels_last.astype(np.float64)
    values = (exact * np.array(contract.std) + np.array(contract.mean)) * 255
    values = in_model_order(values, contract.channels)
    pixels = np.clip(np.rint(values), 0, 255)
    were_images = bool((np.abs(values - pixels) <= _EXACT).all())
    return np.ascontiguousarray(pixels.astype(np.uint8)), were_images
