"""How pictures become a model's input, where somebody says so: given figures over what is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from exporter.artifact import (
    Channels,
    Interpolation,
    ModelSpec,
    Pixels,
    Preprocessing,
    Skipped,
)
from exporter.errors import UsageError
from exporter.runtime.layout import height_width_channels

PIXEL_RANGES: Final = (1, 255)
"""What a white pixel may be before mean and std."""


@dataclass(frozen=True, kw_only=True)
class GivenPreprocessing:
    """What was given of a contract; an empty tuple or None: nothing was said."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: tuple[int, ...] = ()
    """(shorter side,) or (height, width)."""
    crop: tuple[int, ...] = ()
    """(side,) or (height, width)."""
    interpolation: Interpolation | None = None
    channels: Channels | None = None
    pixel_range: int | None = None
    """One of PIXEL_RANGES."""
    exif_orientation: bool = True
    """False: pictures are not turned upright."""


def with_contract(spec: ModelSpec, given: GivenPreprocessing) -> ModelSpec:
    """The model with what was given of its preprocessing, and the rest as it was known.

    What is known of nobody: the shorter side is resized to the input's size (both, where the input
    is no square), bilinear.

    Raises:
        UsageError: it does not fit the model's input, or says too little.
    """
    if given == GivenPreprocessing():
        return spec
    if spec.other_inputs:
        raise UsageError(
            f"{spec.name} takes {len(spec.inputs)} inputs, and preprocessing is that of one "
            "picture; leave it out, and give ready tensors by name with --data FILE.npz"
        )
    known = None if isinstance(spec.preprocessing, Skipped) else spec.preprocessing
    height, width, count = height_width_channels(spec.image_shape)
    if count not in (1, 3):
        raise UsageError(
            f"{spec.name} takes {count} channels, and pictures have 1 or 3; give ready tensors "
            "with --data FILE.npz, and no preprocessing"
        )
    mean, std = _normalisation(spec, given, known, count)
    contract = Preprocessing(
        resize=_resize(given, known, (height, width)),
        crop=_crop(spec, given, (height, width)),
        interpolation=_interpolation(given, known),
        mean=mean,
        std=std,
        source="as given" if known is None else f"as given, over {known.source}",
        channels=_channels(spec, given, known, count),
        exif_orientation=given.exif_orientation and (known is None or known.exif_orientation),
    )
    return replace(spec, preprocessing=contract)


def _normalisation(
    spec: ModelSpec, given: GivenPreprocessing, known: Preprocessing | None, count: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixels in 0..1, a value a channel."""
    if spec.input.dtype == "uint8":
        if given.mean or given.std or given.pixel_range is not None:
            raise UsageError(
                f"{spec.name} takes 8-bit pixels, which are not normalised outside it; leave out "
                "--mean, --std and --pixel-range"
            )
        return (0.0,) * count, (1.0,) * count
    if known is None and not (given.mean and given.std):
        raise UsageError(
            f"how pixels become the input of {spec.name} is not known: give both --mean and --std, "
            "of pixels in 0..1 (or --pixel-range 255); --mean 0 --std 1 leaves them as they are"
        )
    if given.pixel_range is not None and not (given.mean and given.std):
        raise UsageError("--pixel-range is about --mean and --std: give both, too")
    white = 1 if given.pixel_range is None else given.pixel_range
    if white not in PIXEL_RANGES:
        raise UsageError(f"--pixel-range {white!r}: give 1 or 255")
    mean = tuple(value / white for value in _per_channel("--mean", given.mean, count))
    std = tuple(value / white for value in _per_channel("--std", given.std, count))
    if white == 1 and any(abs(value) > 2 for value in mean):
        raise UsageError(
            f"--mean {_shown(given.mean)} is not of pixels in 0..1: if it is of 0..255, add "
            "--pixel-range 255"
        )
    if not all(value > 0 for value in std):
        raise UsageError(f"--std {_shown(given.std)}: every value must be above 0")
    if known is not None:
        return mean or known.mean, std or known.std
    return mean, std


def _per_channel(flag: str, values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """A value for each channel: one stands for all."""
    if len(values) not in (0, 1, count):
        raise UsageError(
            f"{flag} {_shown(values)}: give {count} values, one a channel"
            f"{', or one for all' if count > 1 else ''}"
        )
    return values * count if len(values) == 1 else values


def _crop(spec: ModelSpec, given: GivenPreprocessing, size: tuple[int, int]) -> Pixels:
    asked = _both("--crop", given.crop)
    if asked not in (None, size):
        raise UsageError(
            f"--crop {_shown(given.crop)}: {spec.name} takes {size[0]} x {size[1]} pixels "
            "(height x width); another size needs the model at that size (--image-size)"
        )
    return size[0] if size[0] == size[1] else size


def _resize(
    given: GivenPreprocessing, known: Preprocessing | None, size: tuple[int, int]
) -> Pixels | None:
    asked = _both("--resize", given.resize)
    if asked is None:
        if known is not None and not (given.interpolation and known.resize is None):
            return known.resize
        return size[0] if size[0] == size[1] else size
    # A shorter side must hold the longer one of the crop.
    least = size if len(given.resize) == 2 else (max(size),) * 2
    if asked[0] < least[0] or asked[1] < least[1]:
        raise UsageError(
            f"--resize {_shown(given.resize)} is smaller than the {size[0]} x {size[1]} pixels "
            "(height x width) that are cropped from it"
        )
    return asked if len(given.resize) == 2 else asked[0]


def _both(flag: str, given: tuple[int, ...]) -> tuple[int, int] | None:
    """(height, width) of what was given; None: nothing."""
    match given:
        case ():
            return None
        case (side,) if side > 0:
            return side, side
        case (height, width) if height > 0 and width > 0:
            return height, width
    raise UsageError(f"{flag} {_shown(given)}: give one length in pixels, or HEIGHT,WIDTH")


def _interpolation(given: GivenPreprocessing, known: Preprocessing | None) -> Interpolation:
    if given.interpolation is Interpolation.NONE and (given.resize or known is None):
        raise UsageError("--interpolation none: pictures are resized; name a filter")
    if given.interpolation is not None:
        return given.interpolation
    if known is not None and known.interpolation is not Interpolation.NONE:
        return known.interpolation
    return Interpolation.BILINEAR if known is None or given.resize else Interpolation.NONE


def _channels(
    spec: ModelSpec, given: GivenPreprocessing, known: Preprocessing | None, count: int
) -> Channels:
    default = Channels.GREY if count == 1 else Channels.RGB
    chosen = given.channels or (default if known is None else known.channels)
    if (chosen is Channels.GREY) != (count == 1):
        raise UsageError(f"--channels {chosen}: {spec.name} takes {count}; give {default}")
    if chosen is Channels.BGR and spec.input.dtype == "uint8":
        raise UsageError(
            f"--channels BGR: {spec.name} takes 8-bit pixels as they are; reverse them inside it"
        )
    return chosen


def _shown(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
