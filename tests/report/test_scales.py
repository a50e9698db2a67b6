"""Axes hold their values, whatever those are."""

from __future__ import annotations

import itertools
import math

import pytest

from exporter.report import scales


def test_axes_hold_their_values() -> None:
    for values in ([0.92, 5.66], [1.0], [714.7, 1.0], [1.0000001], [0.3, 0.7]):
        axis = scales.linear(values)
        assert axis.low == 0
        assert axis.high >= max(values)
        assert 2 <= len(axis.ticks) <= 7
        assert axis.place(axis.high) == 100
        assert axis.place(axis.high / 2) == 50
    assert [tick.label for tick in scales.decades([3e-7, 0.04]).ticks] == [
        f"1e-{power}" for power in (7, 6, 5, 4, 3, 2, 1)
    ]
    assert scales.decades([1e-5]).place(1e-4) == 100
    wide = scales.spread([0.3, 400.0])
    assert wide.logarithmic
    assert all(0 < wide.place(value) < 100 for value in (0.3, 400.0))
    assert not scales.spread([9.3, 51.6]).logarithmic
    assert [tick.place for tick in scales.steps([1, 2, 4, 8]).ticks] == [0, 33.33, 66.67, 100]
    assert [tick.place for tick in scales.steps([8]).ticks] == [50]
    decibels = scales.between([26.4, 26.6])
    assert decibels.low < 26.4 < 26.6 < decibels.high


STRANGE = (math.nan, math.inf, -math.inf, 0.0, -3.0, 1e308, 5e-324, 1e50)


@pytest.mark.parametrize("values", [(), *itertools.combinations(STRANGE, 2)])
def test_every_axis_can_be_made_of_anything(values: tuple[float, ...]) -> None:
    for axis in (scales.linear(values), scales.decades(values), scales.spread(values),
                 scales.between(values)):  # fmt: skip
        assert axis.low < axis.high
        assert all(0 <= tick.place <= 100 for tick in axis.ticks)
        assert 0 <= axis.place(1.0) <= 100
    assert scales.steps([0, -1]).ticks
