"""The exact bounds against published values, scipy's beta quantiles, and their own promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from exporter.prove.bounds import agreement_at_most, drop_at_least, rate_at_least


@pytest.mark.parametrize(
    ("count", "trials"),
    [(0, 5), (1, 1), (1, 64), (3, 64), (64, 64), (7, 300), (1999, 2000), (600, 50_000)],
)
def test_the_lower_bound_is_clopper_and_pearsons(count: int, trials: int) -> None:
    expected = beta.ppf(0.05, count, trials - count + 1) if count else 0.0
    assert rate_at_least(count, trials) == pytest.approx(expected, rel=1e-6, abs=1e-11)


def test_all_of_n_has_a_closed_form() -> None:
    assert rate_at_least(20, 20) == pytest.approx(0.05 ** (1 / 20))


def test_agreement_is_one_less_the_flips() -> None:
    assert agreement_at_most(0, 64) == 1.0
    assert agreement_at_most(1, 64) == pytest.approx(0.95 ** (1 / 64))
    assert agreement_at_most(64, 64) == pytest.approx(1 - 0.05 ** (1 / 64))


def test_a_drop_is_counted_where_the_two_differ() -> None:
    assert drop_at_least(0, 0, 100) == 0.0
    assert drop_at_least(10, 10, 100) < 0
    assert drop_at_least(10, 0, 100) == pytest.approx((2 * 0.05**0.1 - 1) * 0.1)
    assert drop_at_least(60, 20, 2000) == pytest.approx(
        (2 * beta.ppf(0.05, 60, 21) - 1) * 80 / 2000
    )


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05])
def test_the_bounds_hold_in_95_of_100_draws(rate: float) -> None:
    drawn = np.random.default_rng(0).binomial(300, rate, 2000)
    bounds = np.array([rate_at_least(count, 300) for count in range(drawn.max() + 1)])
    assert (bounds[drawn] <= rate).mean() >= 0.95
