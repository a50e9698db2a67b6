"""The data set of resnet20-digits: scikit-learn's 1797 handwritten digits, embedded.

They are 8x8 pixels of 16 grey levels, enlarged to 32x32 and scaled to 8 bits. 540 are held out for
good, the other 1257 train and calibrate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from exporter.artifact import Interpolation, Preprocessing
from exporter.images.preprocess import scale

HELD_OUT = 540
"""How many images are never trained or calibrated on."""
MEAN, STD = 0.306, 0.323
"""Mean and deviation of the 1257 training images, in 0..1; the three channels are equal."""
PREPROCESSING = Preprocessing(
    resize=None,
    crop=32,
    interpolation=Interpolation.NONE,
    mean=(MEAN,) * 3,
    std=(STD,) * 3,
    source="resnet20-digits: uint8 RGB 32x32, the grey digit in all three channels",
)

DATA_FILE = "digits.npz"

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """(N, 32, 32, 3) uint8 images and (N,) labels."""

    images: Images
    labels: Labels


@cache
def splits() -> tuple[Split, Split]:
    """The 1257 images for training and calibration, and the 540 held out."""
    file = resources.files("exporter.images") / "data" / DATA_FILE
    with resources.as_file(file) as path, np.load(path) as arrays:
        grey, labels = arrays["images"], arrays["labels"].astype(np.int64)
    colour = np.repeat(grey[..., None], 3, axis=-1)
    return (
        Split(colour[:-HELD_OUT], labels[:-HELD_OUT]),
        Split(colour[-HELD_OUT:], labels[-HELD_OUT:]),
    )


def normalise(images: Images, contract: Preprocessing = PREPROCESSING) -> npt.NDArray[np.float32]:
    """(N, 32, 32, 3) uint8 -> (N, 3, 32, 32) float32 as the model takes it.

    The three channels are equal, so their order does not matter.
    """
    scaled = scale(images, contract.mean, contract.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
