"""The data sets inside the package, and which built-in model each is of.

The last images of each are held out for good, the others train and calibrate.
`data/README.md` says where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt

from exporter.artifact import Channels, ClassNames, Interpolation, Preprocessing

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """(N, H, W, C) uint8 images and (N,) labels."""

    images: Images
    labels: Labels


@dataclass(frozen=True)
class EmbeddedData:
    """Grey images of one size with their labels, and how they become a model's input."""

    name: str
    file: str
    """In `data/`: `images` (N, H, W) uint8, `labels` (N,) uint8."""
    held_out: int
    """How many images, the last, are never trained or calibrated on."""
    preprocessing: Preprocessing
    """With the mean and the deviation of the training images; equal in all channels."""
    classes: ClassNames
    mirrored: bool
    """Whether an image seen in a mirror is of the same class."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the model's input."""
        return (len(self.preprocessing.mean), *self.preprocessing.crop_size)

    def splits(self) -> tuple[Split, Split]:
        """The images for training and calibration, and those held out."""
        return _splits(self)

    def normalise(self, images: Images) -> npt.NDArray[np.float32]:
        """(N, H, W, C) uint8 -> (N, C, H, W) float32 as the model takes it."""
        from exporter.images.preprocess import scale  # Pillow with it, which a list does without

        scaled = scale(images, self.preprocessing.mean, self.preprocessing.std)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@cache
def _splits(data: EmbeddedData) -> tuple[Split, Split]:
    file = resources.files("exporter.images") / "data" / data.file
    with resources.as_file(file) as path, np.load(path) as arrays:
        grey, labels = arrays["images"], arrays["labels"].astype(np.int64)
    images = np.repeat(grey[..., None], data.image_shape[0], axis=-1)
    return (
        Split(images[: -data.held_out], labels[: -data.held_out]),
        Split(images[-data.held_out :], labels[-data.held_out :]),
    )


DIGITS: Final = EmbeddedData(
    name="scikit-learn's digits",
    file="digits.npz",
    held_out=540,
    preprocessing=Preprocessing(
        resize=None,
        crop=32,
        interpolation=Interpolation.NONE,
        mean=(0.306,) * 3,
        std=(0.323,) * 3,
        source="resnet20-digits: uint8 RGB 32x32, the grey digit in all three channels",
    ),
    classes=ClassNames.DIGITS,
    mirrored=False,
)
FASHION: Final = EmbeddedData(
    name="Fashion-MNIST",
    file="fashion.npz",
    held_out=4000,
    preprocessing=Preprocessing(
        resize=None,
        crop=28,
        interpolation=Interpolation.NONE,
        mean=(0.285,),
        std=(0.354,),
        source="resnet20-fashion: uint8 grey 28x28",
        channels=Channels.GREY,
    ),
    classes=ClassNames.FASHION,
    mirrored=True,
)
EMBEDDED: Final[Mapping[str, EmbeddedData]] = {
    "resnet20-digits": DIGITS,
    "resnet20-fashion": FASHION,
}
"""By the name of the built-in model that is trained on it."""
