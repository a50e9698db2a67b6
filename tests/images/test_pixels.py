"""Normalised inputs give back the images that they came from, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.artifact import Interpolation, Preprocessing
from exporter.images.pixels import recover_pixels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTRACT = Preprocessing(None, 16, Interpolation.NONE, MEAN, STD, "a test")


@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_pixel_value_comes_back(nhwc: bool, dtype: type) -> None:
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = np.concatenate([images, 255 - images])
    scaled = images.astype(dtype) / dtype(255) - np.array(MEAN).astype(dtype)
    inputs = (scaled / np.array(STD).astype(dtype)).astype(dtype)
    found = recover_pixels(inputs if nhwc else inputs.transpose(0, 3, 1, 2), CONTRACT)
    assert found is not None
    assert found.dtype == np.uint8
    assert (found == images).all()


@pytest.mark.parametrize(
    "inputs",
    [
        np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32),
        np.full((1, 3, 4, 4), 5.0, np.float32),
        np.zeros((1, 1, 4, 4), np.float32),
        np.zeros((4, 10), np.float32),
        np.full((1, 3, 4, 4), np.nan, np.float32),
    ],
    ids=["noise", "too bright", "grey", "vectors", "nan"],
)
def test_what_came_from_no_image_gives_none(inputs: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        assert recover_pixels(inputs, CONTRACT) is None
