"""The gate's decisions: the promise of its bounds, and how many images it asks for."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import beta, binom

from exporter.prove.bounds import rate_at_least, rate_at_most
from exporter.prove.gate_record import Decision
from exporter.prove.release_gate import (
    Counts,
    Limits,
    decide,
    drop_between,
    more_images,
)

LIMITS = Limits(max_drop=0.01, max_flips=0.01, confidence=0.95)


def test_no_flip_in_300_images_leaves_up_to_one_in_a_hundred() -> None:
    assert rate_at_most(0, 300) == pytest.approx(0.00994, abs=5e-6)
    assert rate_at_most(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("count", "trials"), [(0, 5), (5, 5), (1, 64), (7, 300), (600, 50_000)])
def test_both_bounds_are_clopper_and_pearsons(count: int, trials: int, confidence: float) -> None:
    low = beta.ppf(1 - confidence, count, trials - count + 1) if count else 0.0
    high = beta.ppf(confidence, count + 1, trials - count) if count < trials else 1.0
    assert rate_at_least(count, trials, confidence) == pytest.approx(low, rel=1e-6)
    assert rate_at_most(count, trials, confidence) == pytest.approx(high, rel=1e-6)


@pytest.mark.parametrize("images", [300, 2000])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05])
def test_the_bounds_of_flips_hold_in_95_of_100_trials(rate: float, images: int) -> None:
    drawn = np.random.default_rng(1).binomial(images, rate, 2000)
    counts, times = np.unique(drawn, return_counts=True)
    covered = np.array([rate <= rate_at_most(int(count), images) for count in counts])
    assert times[covered].sum() / 2000 >= 0.95
    # And without the luck of a draw: all counts that may be seen, by their probabilities.
    possible = np.arange(int(binom.ppf(1 - 1e-9, images, rate)) + 1)
    chance = binom.pmf(possible, images, rate)
    for covers in (
        [rate <= rate_at_most(int(count), images) for count in possible],
        [rate_at_least(int(count), images) <= rate for count in possible],
    ):
        assert chance[covers].sum() >= 0.95 - 1e-8


@pytest.mark.parametrize(("lost", "gained"), [(0.001, 0.0), (0.01, 0.008), (0.05, 0.04)])
def test_the_bounds_of_a_drop_hold_in_95_of_100_trials(lost: float, gained: float) -> None:
    drawn = np.random.default_rng(2).multinomial(500, [lost, gained, 1 - lost - gained], 2000)
    found, place = np.unique(drawn[:, :2], axis=0, return_inverse=True)
    low, high = np.array([drop_between(int(b), int(c), 500, 0.95) for b, c in found]).T
    assert (lost - gained <= high[place]).mean() >= 0.95
    assert (low[place] <= lost - gained).mean() >= 0.95


def test_nothing_lost_in_a_handful_of_images_proves_little() -> None:
    assert drop_between(0, 0, 10, 0.95) == pytest.approx((0.025**0.1 - 1, 1 - 0.025**0.1))
    low, high = drop_between(30, 0, 1000, 0.95)
    assert 0.01 < low < 0.03 < high < 0.05
    low, high = drop_between(0, 30, 1000, 0.95)
    assert -0.05 < low < -0.03 < high < -0.01


def test_each_decision() -> None:
    assert decide(Counts(kept=540, flipped=0), LIMITS, True) is Decision.PASS
    assert decide(Counts(kept=100, flipped=0), LIMITS, True) is Decision.UNDECIDED
    assert decide(Counts(kept=80, flipped=20), LIMITS, False) is Decision.FAIL
    harmful = Counts(kept=960, flipped=0, flipped_lost=40)
    loose = Limits(max_drop=0.01, max_flips=0.1, confidence=0.95)
    assert decide(harmful, loose, True) is Decision.FAIL
    assert decide(harmful, loose, False) is Decision.PASS  # nobody knows that they are losses


def test_near_ties_are_no_flips_but_may_lose_an_answer() -> None:
    tied = Counts(kept=500, flipped=0, tied=2, tied_lost=38)
    assert (tied.judged, tied.flips, tied.near_ties, tied.lost) == (500, 0, 40, 38)
    assert decide(tied, LIMITS, False) is Decision.PASS
    assert decide(tied, LIMITS, True) is Decision.FAIL


def test_counts_add_up() -> None:
    parts = Counts(1, 2, 3, 4, 5, 6, 7) + Counts(10, 20, 30, 40, 50, 60, 70)
    assert astuple(parts) == (11, 22, 33, 44, 55, 66, 77)
    assert parts.images == 308


SCENARIOS = [
    (Counts(kept=100, flipped=0), False),
    (Counts(kept=299, flipped=1), False),
    (Counts(kept=700, flipped=4), False),
    (Counts(kept=98, flipped=2), False),
    (Counts(kept=196, flipped=4), False),
    (Counts(kept=60, flipped=0), True),
    (Counts(kept=297, flipped=0, flipped_lost=1), True),
    (Counts(kept=790, flipped=0, flipped_lost=3, flipped_gained=2, tied=5), True),
    (Counts(kept=192, flipped=2, flipped_lost=3, flipped_gained=3), True),
    (Counts(kept=390, flipped=1, flipped_lost=3, flipped_gained=2, tied=4), True),
]


def decided_share(seen: Counts, more: int, labelled: bool, limits: Limits) -> float:
    """The share of 60 other continuations that the exact bounds decide."""
    rates = np.array(astuple(seen)) / seen.images
    drawn = np.random.default_rng(7).multinomial(more, rates, 60) + np.array(astuple(seen))
    rows, times = np.unique(drawn, axis=0, return_counts=True)
    decisions = [decide(Counts(*map(int, row)), limits, labelled) for row in rows]
    return float(times[[one is not Decision.UNDECIDED for one in decisions]].sum() / 60)


def test_as_many_more_images_as_it_says_would_decide() -> None:
    """Within a factor of 1.5, in nine of ten."""
    near = 0
    for seen, labelled in SCENARIOS:
        limits = LIMITS if seen.flips < 0.02 * seen.images else Limits(0.02, 0.03, 0.95)
        assert decide(seen, limits, labelled) is Decision.UNDECIDED
        more = more_images(seen, limits, labelled)
        assert more is not None
        assert more == more_images(seen, limits, labelled)
        less = decided_share(seen, int(more / 1.5), labelled, limits)
        near += less < 0.85 and decided_share(seen, int(more * 1.5), labelled, limits) >= 0.75
    assert near >= 9


def test_a_rate_at_its_limit_is_never_decided() -> None:
    assert more_images(Counts(kept=9900, flipped=100), LIMITS, False) is None
