"""From normalised inputs back to the 8-bit images that they were made of.

`x = (pixel / 255 - mean) / std` has 256 values a channel, so an input that came from an image gives
the image back exactly. Goldens are kept as images as well, wherever they came from images: what
takes images (a baked engine, the browser) then replays the very same goldens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_EXACT: Final = 1e-3
"""How far from a whole pixel value a recovered one may lie: float32's rounding gives under 1e-4."""


def recover_pixels(
    inputs: npt.NDArray[Any], mean: Sequence[float], std: Sequence[float]
) -> npt.NDArray[np.uint8] | None:
    """(N, 3, H, W) or (N, H, W, 3) normalised inputs -> (N, H, W, 3) uint8 images.

    None where the inputs came from no 8-bit images: synthetic noise, ready tensors.
    """
    if inputs.ndim != 4 or 3 not in (inputs.shape[1], inputs.shape[3]):
        return None
    nhwc = inputs.transpose(0, 2, 3, 1) if inputs.shape[1] == 3 else inputs
    exact = (nhwc.astype(np.float64) * np.array(std) + np.array(mean)) * 255
    pixels = np.rint(exact)
    if not (np.abs(exact - pixels) <= _EXACT).all() or pixels.min() < 0 or pixels.max() > 255:
        return None
    return np.ascontiguousarray(pixels.astype(np.uint8))
