"""From a picture to the pixels that a model takes: one rule, for the compiler and where it serves.

Turned upright as its EXIF orientation says (unless the contract says not to), RGB, the shorter side
resized (Pillow, antialiased), the centre cropped: pixel for pixel what torchvision's evaluation
transforms do to an upright picture. Pillow is imported with the first picture. Errors here go on
from a picture's name.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from exporter.runtime.errors import InputError, missing_package, reason_of

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
Picture: TypeAlias = "str | Path | Image | Pixels"
"""A path, a Pillow image, or an array: (H, W, 3) of RGB, (H, W, 1) of grey."""

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")
"""What is opened. Pillow goes by the contents, and would start a program to draw PostScript."""
INTERPOLATIONS: Final = ("bilinear", "bicubic", "lanczos", "box", "nearest")
"""Pillow's filters."""
LARGEST_PIXELS: Final = 80_000_000
"""Beyond this a small file that unpacks to gigabytes is likelier than a photograph."""
_ORIENTATION: Final = 0x0112
"""The EXIF tag; 1 is upright."""


@dataclass(frozen=True)
class Framing:
    """The part of a preprocessing contract that is about pictures, in pixels."""

    resize: int | tuple[int, int] | None
    """The shorter side after resizing, or (height, width); None: the picture already has the
    model's size."""
    crop: int | tuple[int, int]
    """The side of the centre, or (height, width)."""
    interpolation: str
    """One of INTERPOLATIONS; "none" where nothing is resized."""
    exif_orientation: bool = True
    """Pictures are first turned upright, as EXIF says; else they stay as they are stored."""


def upright(picture: Image, *, grey: bool = False, exif_orientation: bool = True) -> Image:
    """The picture as a person sees it, in 8-bit RGB or grey: itself, where it is so already.

    Without `exif_orientation` as it is stored, which a camera may have held askew.

    Raises:
        InputError: it has pixels of more than 8 bits, which Pillow would clip to white.
    """
    from PIL import ImageOps

    if picture.mode.startswith(("I", "F")):
        raise InputError(
            f"has pixels of more than 8 bits (Pillow's mode {picture.mode}); "
            "scale it to 8 bits first"
        )
    # Each of both would copy a picture that it leaves as it is.
    picture.load()  # a PNG may have its tags after its pixels
    if exif_orientation and picture.getexif().get(_ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    mode = "L" if grey else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def resize_and_crop(picture: Image, framing: Framing) -> Image:
    """The centre of the picture, of the crop's size.

    Raises:
        InputError: the picture has another size and the contract does not resize, or is too long.
    """
    from PIL import Image

    size, box = frame(picture.size, framing)
    if framing.resize is None:
        return picture
    resized = picture.resize(size, Image.Resampling[framing.interpolation.upper()])
    return resized.crop(box)


def frame(
    size: tuple[int, int], framing: Framing
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The (width, height) to which a picture of a size is resized, and the box that is cropped.

    The longer side is rounded down and the margin to even, as `torchvision.transforms` does. The
    box is (left, top, right, bottom), and may lie outside of a smaller picture.

    Raises:
        InputError: the picture has another size and the contract does not resize, or is too long.
    """
    crop = framing.crop
    high, wide = crop if isinstance(crop, tuple) else (crop, crop)
    if framing.resize is None:
        if size != (wide, high):
            raise InputError(
                f"has {size[0]}x{size[1]} pixels, the model takes {wide}x{high} without resizing"
            )
        return size, (0, 0, wide, high)
    if isinstance(framing.resize, tuple):
        height, width = framing.resize
    else:
        shorter = min(size)
        width, height = (int(framing.resize * length / shorter) for length in size)
        if width * height > LARGEST_PIXELS:
            raise InputError(
                f"has {size[0]}x{size[1]} pixels, and {width}x{height} once its "
                "shorter side is resized: too long; crop it first"
            )
    left, top = round((width - wide) / 2), round((height - high) / 2)
    return (width, height), (left, top, left + wide, top + high)


@contextmanager
def opened(file: str | Path | IO[bytes]) -> Iterator[Image]:
    """A picture of one of FORMATS, of sane size, not decoded yet.

    Raises:
        InputError: it cannot be read, is no picture, or too large; also what Pillow raises in the
            block.
    """
    from PIL import Image, UnidentifiedImageError

    with _reading(), ExitStack() as stack:
        try:
            picture = stack.enter_context(Image.open(file, formats=FORMATS))
        except UnidentifiedImageError:
            if isinstance(file, str | Path):
                raise
            # Pillow would name the stream, by its address in memory.
            reason = f"none of {', '.join(FORMATS)}"
            raise InputError(f"cannot be read as a picture ({reason})") from None
        if picture.width * picture.height > LARGEST_PIXELS:
            raise InputError(f"has {picture.width}x{picture.height} pixels: too large")
        yield picture


@contextmanager
def _reading() -> Iterator[None]:
    """Whatever Pillow makes of a file that is not quite a picture becomes one error.

    Its decoders raise a dozen kinds of exceptions on damaged files, and warn of harmless ones.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:
        text = getattr(error, "strerror", None) or reason_of(error)
        raise InputError(f"cannot be read as a picture ({text})") from None


def named_pictures(pictures: Picture | Iterable[Picture]) -> Iterator[tuple[str, object]]:
    """Each picture with the name that an error gives it: its file, else its number from 0."""
    given: Iterable[object] = [pictures]
    if isinstance(pictures, Iterable) and not isinstance(pictures, str | os.PathLike):
        is_one = isinstance(pictures, np.ndarray) and pictures.ndim == 3
        given = given if is_one else pictures
    for number, picture in enumerate(given):
        file = picture if isinstance(picture, str | os.PathLike) else None
        file = file or getattr(picture, "filename", None)
        yield (os.fspath(file) if file else f"picture {number}"), picture


def pixels(
    name: str, picture: object, framing: Framing | None, shape: Sequence[int | None]
) -> Pixels:
    """(H, W, C): the picture framed; an array that has the model's size already, as it is.

    `shape`: (H, W, C) that the model takes; None: any size.

    Raises:
        InputError: no picture, or none that the model can take.
    """
    if are_pixels(picture) and fits(picture.shape, shape):
        return picture
    try:
        with _as_pillow(picture) as image:
            turns = framing is None or framing.exif_orientation
            seen = upright(image, grey=shape[-1] == 1, exif_orientation=turns)
            framed = np.asarray(resize_and_crop(seen, framing) if framing else seen)
        framed = framed[..., None] if framed.ndim == 2 else framed
        if not fits(framed.shape, shape):
            expected = " x ".join("any" if size is None else str(size) for size in shape)
            given = " x ".join(map(str, framed.shape))
            raise InputError(f"is {given}, the engine takes {expected} (height, width, channels)")
    except InputError as error:
        raise InputError(f"{name} {error}") from None
    return framed


@contextmanager
def _as_pillow(picture: object) -> Iterator[Image]:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise InputError(missing_package("cannot be opened: that", "pillow")) from None
    if isinstance(picture, Image.Image):
        with _reading():
            yield picture
    elif isinstance(picture, str | os.PathLike):
        with opened(Path(picture)) as image:
            yield image
    elif are_pixels(picture) and picture.ndim == 3 and picture.shape[2] in (1, 3):
        yield Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    else:
        kind = getattr(picture, "dtype", type(picture).__name__)
        raise InputError(
            f"is of type {kind}; give a path, a Pillow image or a uint8 array (H, W, 3)"
        )


def are_pixels(value: object) -> TypeGuard[Pixels]:
    """Whether it is an array of bytes alone: no mask over some of them."""
    return (
        isinstance(value, np.ndarray)
        and not isinstance(value, np.ma.MaskedArray)
        and value.dtype == np.uint8
    )


def fits(given: Sequence[int], shape: Sequence[int | None]) -> bool:
    """Whether an array's shape is the one that is wanted; None: any size."""
    return len(given) == len(shape) and all(
        size in (None, length) for length, size in zip(given, shape, strict=True)
    )
