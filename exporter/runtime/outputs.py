"""The outputs of a network of several: apart by name, or side by side in one row an image.

A golden answer is a row of numbers: the values of the first output, then those of the second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Output:
    """One output, as far as its place in a row goes."""

    name: str
    shape: tuple[int, ...]
    """Of the answer to one image, without a batch dimension."""

    @property
    def size(self) -> int:
        """How many values it has for one image."""
        return math.prod(self.shape)


def side_by_side(answers: Sequence[Array]) -> Array:
    """Each output's answers (N, ...) -> (N, values)."""
    rows = [answer.reshape(len(answer), -1) for answer in answers]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)


def columns(outputs: Sequence[Output]) -> Iterator[slice]:
    """Where each output is in a row."""
    start = 0
    for output in outputs:
        yield slice(start, start + output.size)
        start += output.size


def apart(rows: Array, outputs: Sequence[Output]) -> dict[str, Array]:
    """(N, values) -> each output's answers (N, ...) by name."""
    return {
        output.name: np.ascontiguousarray(rows[:, place]).reshape(len(rows), *output.shape)
        for output, place in zip(outputs, columns(outputs), strict=True)
    }
