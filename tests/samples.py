"""Arrays as calibration samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.images.samples import Samples

Array = npt.NDArray[Any]


def samples_of(array: Array, source: str = "test samples") -> Samples:
    """(N, ...) as N samples in that order."""
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return Samples(source, len(array), digest, None, lambda index: array[index])


@dataclass(frozen=True)
class InPortions(Samples):
    """The same samples, handed out in batches of another size than asked for."""

    portion: int = 1

    def batches(self, size: int) -> Iterator[Array]:
        yield from super().batches(self.portion)
