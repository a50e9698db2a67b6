"""From samples to a speedup: on samples that we know."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.measure.statistics import (
    is_stable,
    orders,
    p50_interval_ms,
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


def test_the_interval_of_p50_is_about_it_and_narrows_with_more_rounds() -> None:
    generator = np.random.default_rng(0)
    rounds = [list(row) for row in generator.normal(0.010, 0.001, size=(200, 5))]
    p50, _, _ = percentiles_ms(rounds)
    low, high = p50_interval_ms(rounds, 0)
    assert low < p50 < high
    few_low, few_high = p50_interval_ms(rounds[:10], 0)
    assert high - low < 0.5 * (few_high - few_low)
    # Samples of one round are alike: a round that is long does not count for more.
    assert p50_interval_ms([[0.010] * 50] * 8, 0) == pytest.approx((10, 10))


def test_the_interval_of_p50_covers_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for trial in range(100):
        # Each round has a state of its own, as a machine has.
        states = generator.normal(0.010, 0.001, size=(30, 1))
        low, high = p50_interval_ms(list(states + generator.normal(0, 1e-4, size=(30, 5))), trial)
        hits += low <= 10 <= high
    assert 88 <= hits <= 100
