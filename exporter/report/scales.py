"""Axes: from a figure to a place on a drawing, in percent of its width or height.

Places are percentages, so that a drawing takes the width of the screen and its letters keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
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


def linear(values: Iterable[float]) -> Scale:
    """From zero to a round figure at or above the largest value; steps of 1, 2 or 5."""
    largest = max(_drawable(values), default=0.0)
    largest = largest if largest > 0 else 1.0
    step = _step(largest)
    count = math.ceil(round(largest / step, 9))
    ticks = tuple(Tick(_round(100 * i / count), f"{step * i:.12g}") for i in range(count + 1))
    return Scale(0.0, step * count, False, ticks)


def decades(values: Iterable[float]) -> Scale:
    """Whole powers of ten around the positive values; at least one decade."""
    positive = _positive(values) or [1.0]
    first = math.floor(math.log10(min(positive)))
    last = max(math.ceil(math.log10(max(positive))), first + 1)
    step = max(1, math.ceil((last - first) / 8))
    low, high = 10.0**first, 10.0**last
    ticks = tuple(
        Tick(_place(10.0**i, low, high, True), f"1e{i}") for i in range(first, last + 1, step)
    )
    return Scale(low, high, True, ticks)


def spread(values: Iterable[float]) -> Scale:
    """For times: linear from zero, or logarithmic where the largest is over 30 times the least."""
    positive = _positive(values)
    if not positive or max(positive) / min(positive) <= 30:
        return linear(positive)
    low, high = min(positive) / 1.3, max(positive) * 1.3
    marks = [m * 10.0**e for e in range(-4, 7) for m in (1, 3) if low <= m * 10.0**e <= high]
    ticks = tuple(Tick(_place(m, low, high, True), significant(m, 1)) for m in marks)
    return Scale(low, high, True, ticks)


def between(values: Iterable[float]) -> Scale:
    """Linear with room around the values, zero not included: for decibels."""
    drawn = _drawable(values) or [0.0]
    room = max(0.1 * (max(drawn) - min(drawn)), 1e-3 * max(map(abs, drawn)), 1.0)
    step = max(_step(max(drawn) - min(drawn) + 2 * room), 1.0)
    first, last = math.floor((min(drawn) - room) / step), math.ceil((max(drawn) + room) / step)
    low, high = first * step, last * step
    ticks = tuple(
        Tick(_place(i * step, low, high, False), f"{i * step:.12g}") for i in range(first, last + 1)
    )
    return Scale(low, high, False, ticks)


def steps(values: Iterable[int]) -> Scale:
    """One tick for each value, logarithmic: for batch sizes. A single one stands in the middle."""
    sizes = sorted(set(_positive(values))) or [1.0]
    low, high = sizes[0], sizes[-1]
    if low == high:
        low, high = low / 2, high * 2
    ticks = tuple(Tick(_place(size, low, high, True), f"{size:.12g}") for size in sizes)
    return Scale(low, high, True, ticks)


def _drawable(values: Iterable[float]) -> list[float]:
    """Those that an axis can hold: nothing that is measured is beyond these."""
    return [value for value in values if abs(value) < 1e99 and not 0 < abs(value) < 1e-99]


def _positive(values: Iterable[float]) -> list[float]:
    return [value for value in _drawable(values) if value > 0]


def _step(span: float, most: int = 6) -> float:
    """The least of 1, 2, 5, 10, ... of which at most so many go into a span."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * m for m in (1, 2, 5, 10, 20) if span / (power * m) <= most)


def _place(value: float, low: float, high: float, logarithmic: bool) -> float:
    if logarithmic:
        if value <= 0:
            return 0.0
        value, low, high = math.log(value), math.log(low), math.log(high)
    return _round(min(max(100 * (value - low) / (high - low), 0.0), 100.0))


def _round(place: float) -> float:
    """Two decimals are a hundredth of a pixel; more would only make the file longer."""
    return round(place, 2)
