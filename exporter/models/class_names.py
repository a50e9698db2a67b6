"""The names of published classes.

They belong to weights whose own source says what they were trained on. A checkpoint of the user's
with 1000 outputs may have been trained on anything, and a random network on nothing: theirs come
from the user, or the classes stay numbers.
"""

from __future__ import annotations

from importlib import resources

from exporter.artifact import ClassNames


def class_names(classes: ClassNames) -> tuple[str, ...]:
    """A name for each output, in order."""
    if classes is ClassNames.DIGITS:
        return tuple("0123456789")
    data = resources.files("exporter.models").joinpath("data", "imagenet_1k.txt")
    return tuple(data.read_text(encoding="utf-8").splitlines())
