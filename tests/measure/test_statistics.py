"""From samples to a speedup: on samples that we know."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.measure.statistics import (
    is_stable,
    orders,
    paired_speedup,
    percentiles_ms,
    round_request,
)
from exporter.measure.timing import Speedup


def test_speedup_is_the_median_of_paired_ratios() -> None:
    baseline = [[4.0, 4.0, 9.0], [8.0], [40.0, 40.0]]
    fast = [[2.0], [2.0, 2.0, 7.0], [4.0]]
    assert paired_speedup(baseline, fast, 0).median == 4.0  # of 2, 4 and 10


def test_drift_that_both_share_cancels_in_the_pairs() -> None:
    """The machine slows down threefold on the way; the ratio stays exactly two."""
    slow_down = np.linspace(1, 3, 20)
    baseline = [[0.02 * s] for s in slow_down]
    fast = [[0.01 * s] for s in slow_down]
    speedup = paired_speedup(baseline, fast, 0)
    assert speedup.median == pytest.approx(2)
    assert speedup.ci95 == pytest.approx((2, 2))
    # Pair them wrongly and it no longer does.
    shuffled = paired_speedup(baseline, fast[::-1], 0)
    assert shuffled.ci95[1] - shuffled.ci95[0] > 0.5


def test_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        noise = np.exp(0.1 * rng.standard_normal((2, 30)))
        baseline, fast = [[3 * v] for v in noise[0]], [[v] for v in noise[1]]
        low, high = paired_speedup(baseline, fast, trial).ci95
        hits += low <= 3 <= high
    assert 88 <= hits <= 100


def test_interval_is_seeded() -> None:
    rng = np.random.default_rng(0)
    rounds = [[v] for v in rng.uniform(1, 2, 30)]
    ones = [[1.0]] * 30
    assert paired_speedup(rounds, ones, 7) == paired_speedup(rounds, ones, 7)
    assert len({paired_speedup(rounds, ones, seed).ci95 for seed in range(20)}) > 1


def test_percentiles_are_over_all_samples_in_milliseconds() -> None:
    rounds = [[i / 1000 for i in range(1, 51)], [i / 1000 for i in range(51, 102)]]
    assert percentiles_ms(rounds) == pytest.approx((51, 91, 100))


@pytest.mark.parametrize(
    ("interval", "tails", "expected"),
    [
        ((1.91, 2.09), (1.1, 1.1), True),
        ((1.89, 2.11), (1.1, 1.1), False),
        ((1.91, 2.09), (1.6, 1.1), False),
        ((1.91, 2.09), (1.1, 1.6), False),
    ],
)
def test_stable_means_a_narrow_interval_and_short_tails(
    interval: tuple[float, float], tails: tuple[float, float], expected: bool
) -> None:
    assert is_stable(Speedup(2.0, interval), *tails) is expected


def test_each_round_times_everyone_once_in_a_seeded_random_order() -> None:
    found = orders(4, 50, 1)
    assert [sorted(order) for order in found] == [[0, 1, 2, 3]] * 50
    assert found == orders(4, 50, 1)
    assert found != orders(4, 50, 2)
    assert {order[0] for order in found} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("median_s", "time_them", "discard"),
    [(0.4, 1, 1), (0.05, 2, 1), (0.01, 10, 2), (0.0001, 50, 6)],
)
def test_a_round_is_long_enough_and_bounded(median_s: float, time_them: int, discard: int) -> None:
    assert round_request(median_s) == {"time": time_them, "discard": discard}
