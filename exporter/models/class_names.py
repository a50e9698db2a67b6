"""The names of published classes.

They belong to weights whose own source says what they were trained on. A checkpoint of the user's
with 1000 outputs may have been trained on anything, and a random network on nothing: theirs come
from the user, or the classes stay numbers.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from exporter.artifact import ClassNames

_SHORT: Final = {
    ClassNames.DIGITS: tuple("0123456789"),
    ClassNames.FASHION: (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip


def class_names(classes: ClassNames) -> tuple[str, ...]:
    """A name for each output, in order."""
    if classes in _SHORT:
        return _SHORT[classes]
    data = resources.files("exporter.models").joinpath("data", "imagenet_1k.txt")
    return tuple(data.read_text(encoding="utf-8").splitlines())
