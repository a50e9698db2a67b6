"""Axes: from a figure to a place on a drawing, in percent of its width or height.

Places are percentages, so that a drawing takes the width of the screen and its letters keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exporter.report.traced import significant


@dataclass(frozen=True)
class Tick:
    """A labelled line across the drawing."""

    place: float
    label: str


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis from `low` to `high`."""

    low: float
    high: float
    logarithmic: bool
    ticks: tuple[Tick, ...]

    def place(self, value: float) -> float:
        """Percent of the axis, 0 at its low end; beyond its ends it is clamped."""
        return _place(value, self.low, self.high, self.logarithmic)


def linear(values: Iterable[float], *, most_ticks: int = 6) -> Scale:
    """From zero to a round figure at or above the largest value; steps of 1, 2 or 5."""
    largest = max(values, default=0.0) or 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    steps = [power * step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
    step = next(s for s in steps if largest / s <= most_ticks)
    count = math.ceil(round(largest / step, 9))
    high = step * count
    ticks = tuple(Tick(_round(100 * i / count), f"{step * i:.12g}") for i in range(count + 1))
    return Scale(0.0, high, False, ticks)


def decades(values: Iterable[float]) -> Scale:
    """Whole powers of ten around the positive values; at least one decade."""
    positive = [value for value in values if value > 0] or [1.0]
    first = math.floor(math.log10(min(positive)))
    last = max(math.ceil(math.log10(max(positive))), first + 1)
    step = max(1, math.ceil((last - first) / 8))
    low, high = 10.0**first, 10.0**last
    ticks = tuple(
        Tick(_place(10.0**i, low, high, True), f"1e{i}") for i in range(first, last + 1, step)
    )
    return Scale(low, high, True, ticks)


def spread(values: Sequence[float]) -> Scale:
    """For times: linear from zero, or logarithmic where the largest is over 30 times the least."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) / min(positive) <= 30:
        return linear(positive)
    low, high = min(positive) / 1.3, max(positive) * 1.3
    marks = [m * 10.0**e for e in range(-4, 7) for m in (1, 3) if low <= m * 10.0**e <= high]
    ticks = tuple(Tick(_place(m, low, high, True), significant(m, 1)) for m in marks)
    return Scale(low, high, True, ticks)


def between(values: Sequence[float]) -> Scale:
    """Linear with room around the values, zero not included: for decibels."""
    low, high = min(values), max(values)
    room = max(0.1 * (high - low), 1.0)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500) if (high - low + 2 * room) / s <= 6)
    first, last = math.floor((low - room) / step), math.ceil((high + room) / step)
    ends = float(first * step), float(last * step)
    ticks = tuple(
        Tick(_place(float(i * step), *ends, False), str(i * step)) for i in range(first, last + 1)
    )
    return Scale(*ends, False, ticks)


def steps(values: Sequence[int]) -> Scale:
    """One tick for each value, logarithmic: for batch sizes. A single one stands in the middle."""
    low, high = float(min(values)), float(max(values))
    if low == high:
        low, high = low / 2, high * 2
    ticks = tuple(Tick(_place(float(v), low, high, True), str(v)) for v in sorted(set(values)))
    return Scale(low, high, True, ticks)


def _place(value: float, low: float, high: float, logarithmic: bool) -> float:
    if logarithmic:
        if value <= 0:
            return 0.0
        value, low, high = math.log(value), math.log(low), math.log(high)
    return _round(min(max(100 * (value - low) / (high - low), 0.0), 100.0))


def _round(place: float) -> float:
    """Two decimals are a hundredth of a pixel; more would only make the file longer."""
    return round(place, 2)
