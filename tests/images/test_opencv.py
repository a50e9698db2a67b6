"""Pictures through OpenCV: the contract's frame, and pixels that differ only where it resizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exporter.artifact import Channels, Interpolation, ModelSpec, Preprocessing
from exporter.errors import InputError
from exporter.images import opencv, samples
from tests.manifests import resnet50

SPEC = replace(resnet50().model, input=replace(resnet50().model.input, dtype="uint8"))
CONTRACT = Preprocessing(
    resize=None, crop=(24, 32), interpolation=Interpolation.NONE, mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2), source="a test",
)  # fmt: skip
SHRINKS = replace(CONTRACT, resize=24, crop=24, interpolation=Interpolation.BILINEAR)


def picture(width: int, height: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def both(file: Path, contract: Preprocessing, spec: ModelSpec = SPEC) -> tuple[object, object]:
    """The pixels of the contract's decoder and OpenCV's."""
    return samples.read_picture(file, contract, spec), opencv.read_picture(file, contract, spec)


@pytest.mark.parametrize("channels", list(Channels))
def test_pixels_that_nobody_resizes_are_the_same(tmp_path: Path, channels: Channels) -> None:
    grey = channels is Channels.GREY
    file = tmp_path / "x.png"
    picture(32, 24, 1 if grey else 3).save(file)
    expected, found = both(file, replace(CONTRACT, channels=channels))
    np.testing.assert_array_equal(expected, found)


def test_a_turned_picture_is_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    file = tmp_path / "x.png"
    picture(24, 32).save(file, exif=turned)
    expected, found = both(file, CONTRACT)
    np.testing.assert_array_equal(expected, found)


def test_a_picture_stays_as_it_is_stored_where_the_contract_says_so(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    file = tmp_path / "x.png"
    stored = picture(32, 24)
    stored.save(file, exif=turned)
    expected, found = both(file, replace(CONTRACT, exif_orientation=False))
    np.testing.assert_array_equal(expected, found)
    stored.save(file)
    np.testing.assert_array_equal(expected, both(file, CONTRACT)[0])


@pytest.mark.parametrize("size", [(32, 32), (90, 60), (60, 91)])
@pytest.mark.parametrize("crop", [24, (20, 30), 40])
def test_the_frame_is_the_contracts(
    tmp_path: Path, size: tuple[int, int], crop: int | tuple[int, int]
) -> None:
    """With `nearest` and whole factors both take pixels of the very same places, or black."""
    file = tmp_path / "x.png"
    flat = Image.new("RGB", size, (200, 100, 50))
    flat.save(file)
    contract = replace(SHRINKS, resize=32, crop=crop, interpolation=Interpolation.NEAREST)
    expected, found = both(file, contract)
    np.testing.assert_array_equal(expected, found)


def test_a_picture_that_shrinks_differs_for_want_of_a_filter(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    picture(240, 240).save(file)
    expected, found = (np.asarray(one, float) for one in both(file, SHRINKS))
    assert expected.std() < found.std() / 3  # noise: the filter averages it away
    area = replace(SHRINKS, interpolation=Interpolation.BOX)
    expected, found = (np.asarray(one, float) for one in both(file, area))
    assert abs(expected - found).max() <= 1


def test_what_it_cannot_take_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_text("no picture")
    with pytest.raises(InputError, match=r"x\.png cannot be decoded by OpenCV"):
        opencv.read_picture(file, CONTRACT, SPEC)
    picture(10, 10).save(file)
    with pytest.raises(InputError, match=r"x\.png has 10x10 pixels, the model takes 32x24"):
        opencv.read_picture(file, CONTRACT, SPEC)


def test_each_way_is_in_words() -> None:
    assert opencv.in_words(SHRINKS).endswith(", INTER_LINEAR")
    assert opencv.in_words(CONTRACT).startswith("OpenCV 4")
    assert "bilinear" in opencv.pillow_in_words(SHRINKS)
    assert set(opencv.INTERPOLATION) == set(Interpolation)
