"""Where to clip: the range with the least mean squared error, from a histogram.

A range (L, H) on 255 steps costs, over all values x,

    sum of count * (max(L - x, 0)^2 + max(x - H, 0)^2)      what is cut off
  + number of values that are not zero * step^2 / 12        what rounding adds (uniform in a step)

with step = (H - L) / 255. Zero is exact in both dialects and costs nothing, which matters behind a
Relu: half the values are zero. Candidates are fractions of the range that was seen. Both sides of
an asymmetric range are searched together: their costs add, but for the common step.

Source: Sung et al. 2015, "Resiliency of Deep Neural Networks under Quantization" (L2 error
minimisation); docs/decisions/0020 has what it was measured against.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from exporter.quantize.histogram import BINS, Histogram

Floats = npt.NDArray[np.float64]

FRACTIONS: Final[Floats] = np.linspace(1.0, 0.2, 81)
"""The candidates as fractions of the extremes seen, largest first: of two with the same error the
wider range wins."""


def asymmetric_range(histogram: Histogram, minimum: float, maximum: float) -> tuple[float, float]:
    """The best (L, H) for 256 levels within (minimum, maximum), both of which may be reached."""
    lows = FRACTIONS * minimum if minimum < 0.0 else np.zeros(1)
    highs = FRACTIONS * maximum if maximum > 0.0 else np.zeros(1)
    steps = (highs[None, :] - lows[:, None]) / 255.0
    cost = (
        _not_zero(histogram) * steps**2 / 12.0
        + _cut_off(histogram, -lows, side=-1)[:, None]
        + _cut_off(histogram, highs, side=1)[None, :]
    )
    low, high = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return float(lows[low]), float(highs[high])


def symmetric_range(histogram: Histogram, largest: float) -> float:
    """The best A for the 255 levels of (-A, A), with A at most `largest`."""
    bounds = FRACTIONS * largest
    cost = (
        _not_zero(histogram) * (bounds / 127.0) ** 2 / 12.0
        + _cut_off(histogram, bounds, side=1)
        + _cut_off(histogram, bounds, side=-1)
    )
    return float(bounds[int(np.argmin(cost))])


def _not_zero(histogram: Histogram) -> float:
    return float(histogram.counts.sum() - histogram.counts[BINS])


def _cut_off(histogram: Histogram, bounds: Floats, side: int) -> Floats:
    """For each bound the squared error of what lies beyond it on one side of zero."""
    used = histogram.counts > 0
    beyond = np.maximum(side * histogram.centres()[used, None] - bounds[None, :], 0.0)
    cost: Floats = (histogram.counts[used, None] * beyond**2).sum(axis=0)
    return cost
