"""From a picture to what an engine takes, as the manifest's preprocessing says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "none": Image.Resampling.NEAREST,
}


FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def open_picture(source: Path | IO[bytes]) -> Image.Image:
    """A picture of one of FORMATS; Pillow knows others, and starts programs for some of them."""
    return Image.open(source, formats=FORMATS)


def prepare(picture: Image.Image, contract: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """(crop, crop, 3) uint8 RGB: the shorter side resized, then the centre.

    Sizes are rounded down and margins to even, as torchvision does. A model without resizing was
    trained on pictures of its own size; others are brought to it here.
    """
    picture = picture.convert("RGB")
    crop = int(contract["crop"])
    shorter = int(contract["resize"] or crop)
    size = [int(shorter * length / min(picture.size)) for length in picture.size]
    picture = picture.resize((size[0], size[1]), FILTERS[contract["interpolation"]])
    left, top = (round((length - crop) / 2) for length in size)
    return np.asarray(picture.crop((left, top, left + crop, top + crop)))
