"""A histogram of fixed size whose content does not depend on the order of what was added.

Bins are [i * w, (i + 1) * w) for i in -N..N-1, with w a power of two. Where a larger value comes, w
doubles and bins merge in pairs: floor(floor(x / w) / 2) = floor(x / 2w) exactly, so the result is
the one that the final w would have given from the start.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BINS: Final = 2048
"""How many bins there are on each side of zero."""
_SMALLEST_EXPONENT: Final = -100
"""The finest bins are 2 ** -100 wide, finer than any scale in use."""


class Histogram:
    """Counts of values, in 2 * BINS bins around zero."""

    def __init__(self) -> None:
        self._exponent = _SMALLEST_EXPONENT  # w = 2 ** exponent
        self.counts = np.zeros(2 * BINS, np.int64)

    def add(self, values: npt.NDArray[np.float32], largest: float) -> None:
        """Counts finite values; `largest` bounds their absolute value."""
        while math.ldexp(BINS, self._exponent) <= largest:
            self._coarsen(largest)
        scaled = values.astype(np.float64) * math.ldexp(1.0, -self._exponent)
        bins = np.floor(scaled).astype(np.int64)
        self.counts += np.bincount(bins + BINS, minlength=2 * BINS)

    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of every bin."""
        middles: npt.NDArray[np.float64] = np.arange(-BINS, BINS, dtype=np.float64) + 0.5
        middles *= math.ldexp(1.0, self._exponent)
        return middles

    def _coarsen(self, largest: float) -> None:
        if not self.counts.any():
            # 2 ** (e - 1) <= largest < 2 ** e, and e bits fill BINS bins of the width that is left.
            self._exponent = max(self._exponent, math.frexp(largest)[1] - int(math.log2(BINS)))
            return
        merged: npt.NDArray[Any] = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros_like(self.counts)
        self.counts[BINS // 2 : BINS // 2 + BINS] = merged
        self._exponent += 1
