"""From samples to a speedup with its interval, and how long and in which order to sample.

`stable` is false where the interval of the speedup is wider than STABLE_INTERVAL of its median, or
where p90 of the engine or of the baseline is more than STABLE_TAIL times its p50: then something
else was running, and the ratio may hold where the milliseconds do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from exporter.measure.timing import Speedup

ROUND_S: Final = 0.1
"""How long one engine is timed in one round, in seconds; at least one inference, at most 50."""
MOST_IN_A_ROUND: Final = 50
STABLE_INTERVAL: Final = 0.1
STABLE_TAIL: Final = 1.5
RESAMPLES: Final = 2000

Floats = npt.NDArray[np.float64]


def round_request(median_s: float) -> dict[str, int]:
    """What a worker is asked for in one round: inferences to time, and to discard before."""
    count = min(MOST_IN_A_ROUND, max(1, round(ROUND_S / median_s)))
    return {"time": count, "discard": 1 + count // 10}


def orders(workers: int, rounds: int, seed: int) -> list[list[int]]:
    """For each round, the order in which the workers are timed: a seeded permutation."""
    generator = np.random.default_rng(seed)
    return [[int(i) for i in generator.permutation(workers)] for _ in range(rounds)]


def paired_speedup(
    baseline: Sequence[Sequence[float]], engine: Sequence[Sequence[float]], seed: int
) -> Speedup:
    """The median over rounds of median(baseline) / median(engine), with its bootstrap interval.

    Both hold one list of samples for each round; round i of one is paired with round i of the
    other. The interval is the 2.5th and 97.5th percentile over RESAMPLES resamplings of rounds.
    """
    ratios: Floats = np.array(
        [np.median(b) / np.median(e) for b, e in zip(baseline, engine, strict=True)]
    )
    generator = np.random.default_rng(seed)
    drawn = ratios[generator.integers(0, len(ratios), size=(RESAMPLES, len(ratios)))]
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return Speedup(float(np.median(ratios)), (float(low), float(high)))


def percentiles_ms(rounds: Iterable[Iterable[float]]) -> tuple[float, float, float]:
    """p50, p90 and p99 of all samples of all rounds (given in seconds), in milliseconds."""
    samples = [sample for one_round in rounds for sample in one_round]
    p50, p90, p99 = np.percentile(samples, [50, 90, 99]) * 1e3
    return float(p50), float(p90), float(p99)


def p50_interval_ms(rounds: Sequence[Sequence[float]], seed: int) -> tuple[float, float]:
    """The bootstrap interval of the p50 of samples in seconds: whole rounds are drawn again.

    Samples of one round are alike, and are not drawn one by one. It says how far another run on the
    same machine in the same state would be, not another day's.
    """
    generator = np.random.default_rng(seed)
    medians: Floats = np.array([np.median(samples) for samples in rounds])
    drawn = medians[generator.integers(0, len(medians), size=(RESAMPLES, len(medians)))]
    middle = np.percentile(np.concatenate([np.asarray(one) for one in rounds]), 50)
    # About the p50 of all samples, which need not be the median of the rounds' own.
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5]) + middle - np.median(medians)
    return float(low * 1e3), float(high * 1e3)


def is_stable(speedup: Speedup, *tails: float) -> bool:
    """The rule of this module's docstring; `tails` are p90 / p50 of engine and baseline."""
    low, high = speedup.ci95
    return high - low <= STABLE_INTERVAL * speedup.median and max(tails) <= STABLE_TAIL
