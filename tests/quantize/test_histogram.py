"""The histogram's independence of order, and the range with the least squared error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.quantize.histogram import BINS, Histogram
from exporter.quantize.mse_range import FRACTIONS, asymmetric_range, symmetric_range

Floats = npt.NDArray[np.float32]


def counted(parts: list[Floats]) -> Histogram:
    histogram = Histogram()
    largest = 0.0
    for part in parts:
        largest = max(largest, float(np.abs(part).max()))
        histogram.add(part, largest)
    return histogram


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=60),
    st.permutations(range(4)),
)
def test_the_counts_do_not_depend_on_order_or_portions(
    numbers: list[float], order: list[int]
) -> None:
    values = np.array(numbers, np.float32)
    parts = [part for part in np.array_split(values, 4) if part.size]
    whole = counted([values])
    for arrangement in (parts, parts[::-1], [parts[i % len(parts)] for i in order[: len(parts)]]):
        if len({id(part) for part in arrangement}) < len(parts):
            continue
        again = counted(arrangement)
        assert np.array_equal(again.counts, whole.counts)
        assert np.array_equal(again.centres(), whole.centres())


def test_every_value_is_in_the_bin_around_it() -> None:
    values = np.random.default_rng(0).normal(0, 3, 5000).astype(np.float32)
    histogram = counted([values])
    assert histogram.counts.sum() == 5000
    centres = histogram.centres()
    width = centres[1] - centres[0]
    expected, _ = np.histogram(values, np.append(centres - width / 2, centres[-1] + width / 2))
    assert np.array_equal(histogram.counts, expected)
    assert np.abs(values).max() < BINS * width <= 2 * np.abs(values).max()


def test_its_size_is_fixed() -> None:
    histogram = Histogram()
    for exponent in range(-100, 100):
        histogram.add(np.array([2.0**exponent], np.float32), 2.0**exponent)
    assert histogram.counts.shape == (2 * BINS,)
    assert histogram.counts.sum() == 200


def squared_error(values: Floats, low: float, high: float, levels: int) -> float:
    step = (high - low) / levels
    codes = np.rint(np.clip(values.astype(np.float64), low, high) / step)
    return float(((codes * step - values) ** 2).sum())


@pytest.mark.parametrize("outlier", [6.0, 10.0, 60.0])
def test_the_asymmetric_range_has_the_least_error_of_all_candidates(outlier: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 1.0, 20000).astype(np.float32)
    values[:5] = outlier
    low, high = float(values.min()), float(values.max())
    chosen = asymmetric_range(counted([values]), low, high)
    errors = {
        (a, b): squared_error(values, low * a, high * b, 255)
        for a in FRACTIONS[::4]
        for b in FRACTIONS[::2]
    }
    assert squared_error(values, *chosen, 255) <= 1.02 * min(errors.values())


def test_the_symmetric_range_has_the_least_error_of_all_candidates() -> None:
    values = np.random.default_rng(1).laplace(0, 1.0, 50000).astype(np.float32)
    largest = float(np.abs(values).max())
    chosen = symmetric_range(counted([values]), largest)
    errors = [squared_error(values, -largest * a, largest * a, 254) for a in FRACTIONS]
    assert squared_error(values, -chosen, chosen, 254) <= 1.02 * min(errors)
    assert chosen < 0.95 * largest


def test_zeros_behind_a_relu_do_not_speak_for_a_finer_step() -> None:
    values = np.maximum(np.random.default_rng(2).normal(0, 1, 20000), 0).astype(np.float32)
    positive = values[values > 0]
    largest = float(values.max())
    with_zeros = asymmetric_range(counted([values]), 0.0, largest)
    without = asymmetric_range(counted([positive]), 0.0, largest)
    assert with_zeros == without
    assert with_zeros[0] == 0.0


def test_uniform_values_are_not_clipped() -> None:
    values = np.linspace(0, 1, 10000, dtype=np.float32)
    assert asymmetric_range(counted([values]), 0.0, 1.0) == pytest.approx((0.0, 1.0), abs=0.011)
