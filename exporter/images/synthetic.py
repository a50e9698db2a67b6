"""Seeded images with natural spectra, for models that come without data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.runtime.layout import Layout, height_width_channels, layout_of

Array = npt.NDArray[Any]


def synthetic_inputs(
    shape: tuple[int, ...],
    count: int,
    seed: int | tuple[int, ...],
    dtype: str = "float32",
) -> Array:
    """(count, *shape) images whose spectra fall as 1/f, as natural images' do (Field, 1987).

    Colour channels share most of their structure. Floats have mean 0 and deviation 1 over an image,
    as after ImageNet's normalisation; uint8 has mean 118 and deviation 58. Of a vector, (count, K)
    normal numbers.
    """
    if len(shape) == 1:
        return np.random.default_rng(seed).standard_normal((count, *shape), np.float32)
    height, width, channels = height_width_channels(shape)
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    amplitude = 1.0 / frequency
    amplitude[0, 0] = 0.0
    noise = rng.standard_normal((count, 1 + channels, height, width))
    fields = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(height, width))
    images = fields[:, :1] + 0.35 * fields[:, 1:]
    deviation = images.std(axis=(1, 2, 3), keepdims=True)
    images /= np.where(deviation == 0, 1, deviation)  # one pixel has none
    # Exposure differs from picture to picture.
    images = images * rng.uniform(0.6, 1.2, (count, 1, 1, 1)) + rng.normal(0, 0.3, (count, 1, 1, 1))
    if layout_of(shape) is Layout.NHWC:
        images = images.transpose(0, 2, 3, 1)
    if dtype == "uint8":
        pixels: Array = np.clip(np.round(images * 58 + 118), 0, 255).astype(np.uint8)
        return pixels
    return np.ascontiguousarray(images, dtype=dtype)
