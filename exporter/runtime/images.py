"""8-bit images to model input: `x = (pixel / 255 - mean) / std`, by table.

There are 256 pixel values and 3 channels, so all 768 results are computed once, in float64, and
rounded once; looking them up is exact where computing them in float32 rounds three times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.runtime.layout import Layout

Array = npt.NDArray[Any]
Images = npt.NDArray[np.uint8]


class Normalisation:
    """Turns uint8 images (N, H, W, 3) into the input that the model was trained on."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], *, dtype: np.dtype[Any], layout: Layout
    ) -> None:
        pixels = np.arange(256, dtype=np.float64)[:, None] / 255
        exact = (pixels - np.array(mean, np.float64)) / np.array(std, np.float64)
        self.table: Array = np.ascontiguousarray(exact.T.astype(dtype))  # (3, 256)
        self._layout = layout

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value that an image can give."""
        return float(self.table.min()), float(self.table.max())

    def __call__(self, images: Images) -> Array:
        """(N, H, W, 3) uint8 -> (N, 3, H, W) or (N, H, W, 3), by the layout."""
        count, height, width, channels = images.shape
        result = np.empty((count, channels, height, width), self.table.dtype)
        for channel in range(channels):
            # mode="clip" skips a check that uint8 cannot fail, and writes straight into `out`.
            np.take(self.table[channel], images[..., channel], out=result[:, channel], mode="clip")
        if self._layout is Layout.NCHW:
            return result
        return np.ascontiguousarray(result.transpose(0, 2, 3, 1))
