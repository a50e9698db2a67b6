"""8-bit images to model input: `x = (pixel / 255 - mean) / std`, by table.

There are 256 pixel values and 1 or 3 channels, so all results are computed once, in float64, and
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
    """Turns uint8 images (N, H, W, C) into the input that the model was trained on.

    `mean` and `std` are in the order of the input's channels; where that is `reversed`, the images
    have the other one.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        dtype: np.dtype[Any],
        layout: Layout,
        reversed: bool = False,  # noqa: A002 - what it is
    ) -> None:
        pixels = np.arange(256, dtype=np.float64)[:, None] / 255
        exact = (pixels - np.array(mean, np.float64)) / np.array(std, np.float64)
        self.table: Array = np.ascontiguousarray(exact.T.astype(dtype))  # (C, 256)
        self._layout = layout
        self._reversed = reversed

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value that an image can give."""
        return float(self.table.min()), float(self.table.max())

    def __call__(self, images: Images) -> Array:
        """(N, H, W, C) uint8 -> (N, C, H, W) or (N, H, W, C), by the layout."""
        if self._reversed:
            images = images[..., ::-1]
        count, height, width, channels = images.shape
        result = np.empty((count, channels, height, width), self.table.dtype)
        for channel in range(channels):
            # mode="clip" skips a check that uint8 cannot fail, and writes straight into `out`.
            np.take(self.table[channel], images[..., channel], out=result[:, channel], mode="clip")
        if self._layout is Layout.NCHW:
            return result
        return np.ascontiguousarray(result.transpose(0, 2, 3, 1))
