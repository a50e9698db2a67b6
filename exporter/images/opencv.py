"""A picture through OpenCV, as many services decode and resize it: to see what that changes.

The contract's own pixels are Pillow's (`preprocess.py`). OpenCV decodes JPEG by other arithmetic
and resizes without a low-pass filter, so its pixels differ wherever a picture shrinks. It is
imported with the first picture, and only where it is installed (extra `opencv`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.artifact import Channels, ModelSpec, Preprocessing
from exporter.errors import InputError
from exporter.images.preprocess import normalise
from exporter.runtime.errors import ServingError
from exporter.runtime.pictures import Framing, frame

INTERPOLATION: Final = {
    "bilinear": "INTER_LINEAR",
    "bicubic": "INTER_CUBIC",
    "lanczos": "INTER_LANCZOS4",
    "box": "INTER_AREA",
    "nearest": "INTER_NEAREST",
    "none": "INTER_LINEAR",
}
"""What a service that knows the contract's interpolation by name would ask OpenCV for."""


def is_installed() -> bool:
    """Whether pictures can go through it here."""
    return importlib.util.find_spec("cv2") is not None


def in_words(contract: Preprocessing) -> str:
    """Which OpenCV it is, and how it resizes."""
    import cv2

    resizes = f", {INTERPOLATION[contract.interpolation]}" if contract.resize is not None else ""
    return f"OpenCV {cv2.__version__}{resizes}"


def pillow_in_words(contract: Preprocessing) -> str:
    """The same of the contract's own way."""
    resizes = f", {contract.interpolation} with a low-pass filter" if contract.resize else ""
    return f"Pillow {importlib.metadata.version('pillow')}{resizes}"


def read_picture(file: Path, contract: Preprocessing, spec: ModelSpec) -> npt.NDArray[Any]:
    """A picture as the model takes it, without a batch dimension.

    Raises:
        InputError: OpenCV cannot decode it, or it does not have the model's size.
    """
    import cv2

    grey = contract.channels is Channels.GREY
    mode = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    if not contract.exif_orientation:
        mode |= cv2.IMREAD_IGNORE_ORIENTATION
    decoded = cv2.imdecode(np.fromfile(file, np.uint8), mode)
    if decoded is None:
        raise InputError(f"{file} cannot be decoded by OpenCV")
    framing = Framing(contract.resize, contract.crop, contract.interpolation)
    try:
        size, (left, top, right, bottom) = frame(decoded.shape[1::-1], framing)
    except ServingError as error:
        raise InputError(f"{file} {error}") from None
    if decoded.shape[1::-1] != size:
        how = getattr(cv2, INTERPOLATION[contract.interpolation])
        decoded = cv2.resize(decoded, size, interpolation=how)
    # As with Pillow, what the crop takes from outside of the picture is black.
    high, wide = max(-top, bottom - size[1], 0), max(-left, right - size[0], 0)
    framed = np.pad(np.atleast_3d(decoded), ((high, high), (wide, wide), (0, 0)))
    pixels: npt.NDArray[np.uint8] = framed[top + high : bottom + high, left + wide : right + wide]
    prepared: npt.NDArray[Any] = normalise(pixels[None, ..., ::-1], contract, spec)[0]
    return prepared
