"""Shapes of a module's inputs, as a user gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from exporter.errors import UsageError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
"""Of one sample of each input, without a batch dimension, in the order in which they are given."""

_RANKS: Final = (1, 3)
"""Of a vector and of a picture."""


def given_shapes(words: Iterable[str]) -> dict[str, Shape]:
    """Of `--input`: "depth=1x32x32" -> {"depth": (1, 32, 32)}.

    Raises:
        UsageError: a word has not that form, or a name comes twice.
    """
    found: dict[str, Shape] = {}
    for word in words:
        name, _, sizes = word.partition("=")
        numbers = sizes.lower().split("x")
        if not name or len(numbers) not in _RANKS or not all(n.isdecimal() for n in numbers):
            raise UsageError(
                f"--input {word!r}: give NAME=CHANNELSxHEIGHTxWIDTH, or NAME=LENGTH of a vector, "
                "as in depth=1x224x224"
            )
        if name in found or min(map(int, numbers)) < 1:
            raise UsageError(f"--input {word!r}: give each input once, and sizes of at least 1")
        found[name] = tuple(map(int, numbers))
    return found
