"""Where the channels of an image input are: one rule for compiler, packages and runtime."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, TypeVar

CHANNELS: Final = (1, 3, 4)
"""How many channels an image may have: grey, RGB, RGBA."""

Size = TypeVar("Size")


class Layout(StrEnum):
    """The order of an image input's dimensions."""

    NCHW = "NCHW"
    NHWC = "NHWC"


def layout_of(image: Sequence[object]) -> Layout:
    """The layout of an input whose images, without the batch, have this shape.

    NHWC where the last dimension is a number of channels and the first is not; else NCHW, as
    PyTorch has it. A dimension of any size (None, or a name) is no number of channels.
    """
    last_alone = image[-1] in CHANNELS and image[0] not in CHANNELS
    return Layout.NHWC if last_alone else Layout.NCHW


def height_width_channels(image: Sequence[Size]) -> tuple[Size, Size, Size]:
    """(H, W, C) of an image shape in either layout."""
    a, b, c = image
    return (a, b, c) if layout_of(image) is Layout.NHWC else (b, c, a)
