"""What a rate is at least or at most, from a count: exact one-sided bounds.

Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
binomial", Biometrika 26 (1934): the lower bound of a rate of which `count` of `trials` were seen is
the q at which P(X >= count), X ~ Binomial(trials, q), is 1 - CONFIDENCE. Were the rate any lower,
so many would have been seen in less than one of twenty draws. The upper bound is the q at which
P(X <= count) is that.
"""

from __future__ import annotations

from typing import Final

import numpy as np

CONFIDENCE: Final = 0.95


def rate_at_least(count: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The lower bound of a rate; 0 where nothing was seen."""
    return _rate_of_fewer(count, trials, confidence) if count else 0.0


def rate_at_most(count: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The upper bound of a rate; 1 where nothing else was seen."""
    return _rate_of_fewer(count + 1, trials, 1 - confidence) if count < trials else 1.0


def _rate_of_fewer(count: int, trials: int, probability: float) -> float:
    """The rate at which P(X < count) has that value, by bisection: it falls as the rate grows."""
    seen = np.arange(count)
    steps = np.log((trials - seen[:-1]) / (seen[:-1] + 1))
    log_choose = np.concatenate([[0.0], np.cumsum(steps)])
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        rate = (low + high) / 2
        fewer = np.exp(log_choose + seen * np.log(rate) + (trials - seen) * np.log1p(-rate)).sum()
        low, high = (rate, high) if fewer > probability else (low, rate)
    return low


def agreement_at_most(flips: int, trials: int) -> float:
    """The upper bound of the share of inputs that get the reference's answer."""
    return 1.0 - rate_at_least(flips, trials)


def drop_at_least(lost: int, gained: int, trials: int) -> float:
    """The lower bound of a drop in accuracy, from the inputs that only one of two answers right.

    `lost` are those that the reference alone answers right, `gained` those that the engine alone
    does. Of the lost + gained inputs on which they differ, as in McNemar's test (Psychometrika 12,
    1947), a share s is lost, and the drop is (2 s - 1) (lost + gained) / trials. Negative: the data
    do not even show that there is one.
    """
    differ = lost + gained
    if not differ:
        return 0.0
    return (2 * rate_at_least(lost, differ) - 1) * differ / trials
