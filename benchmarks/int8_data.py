"""The images of the comparison: how an ONNX file's are prepared, and which calibrate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exporter.artifact import Model, Preprocessing
from exporter.errors import InputError, UsageError
from exporter.images.samples import Data, Samples
from exporter.runtime.layout import Layout, height_width_channels


def draws_of(samples: Samples, count: int, size: int, seed: int) -> list[Samples]:
    """`count` disjoint seeded selections of `size` images.

    Raises:
        InputError: there are too few images.
    """
    if count * size > samples.count:
        raise InputError(
            f"{samples.source} has {samples.count} images, {count} draws of {size} need "
            f"{count * size}; lower --draws or --calibration-samples"
        )
    order = np.random.default_rng(seed).permutation(samples.count)
    return [samples.select(order[i * size : (i + 1) * size].tolist()) for i in range(count)]


def with_preprocessing(model: Model, mean: str, std: str, resize: int | None) -> Model:
    """The model, with what its file does not say."""
    side, _, _ = height_width_channels(model.spec.image_shape)
    contract = Preprocessing(
        resize=resize,
        crop=side,
        interpolation="none" if resize is None else "bilinear",
        mean=_three("--mean", mean),
        std=_three("--std", std),
        source="given on the command line",
    )
    return replace(model, spec=replace(model.spec, preprocessing=contract))


def _three(option: str, text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(word) / 255.0 for word in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r}: give three numbers, as in 123,117,104") from None
    return red, green, blue


def blue_first(data: Data, layout: Layout) -> Data:
    """The same images with their channels the other way round."""
    axis = layout.index("C") - 1  # an image has no batch dimension

    def flipped(samples: Samples) -> Samples:
        return replace(samples, _read=lambda index: np.flip(samples._read(index), axis).copy())

    return replace(data, calibration=flipped(data.calibration), evaluation=flipped(data.evaluation))
