"""Ratios of two engines over the rounds of one run, with intervals, and what may be said of them.

    speedup of E over B = median over rounds of median(B's round) / median(E's round)

More than 1 is faster than B. The interval is the 2.5th to the 97.5th percentile over resamplings:
of the lives of the processes first where there are several, then of the rounds within each (a
two-stage bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from exporter.commands.compare_engine import SAME
from exporter.measure.timing import Speedup

RESAMPLES: Final = 2000
SAME_ENGINE: Final = SAME - 1
"""How far from 1 the ratio of an engine to itself may lie; more marks the run."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Verdict(StrEnum):
    """What the interval and the size of a ratio allow to say."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"


@dataclass(frozen=True)
class Rounds:
    """One engine's samples in a group: for each round its times in seconds, and its life."""

    samples_s: Sequence[Sequence[float]]
    lives: Sequence[int]

    def medians(self) -> Floats:
        """The median of each round, in seconds."""
        return np.array([np.median(one) for one in self.samples_s], np.float64)


def draws(lives: Sequence[int], seed: int) -> Indices:
    """(RESAMPLES, rounds) indices of rounds, as the module's docstring says."""
    generator = np.random.default_rng(seed)
    by_life = [np.flatnonzero(np.array(lives) == life) for life in sorted(set(lives))]
    drawn = []
    for _ in range(RESAMPLES):
        chosen = generator.integers(0, len(by_life), size=len(by_life))
        rounds = [generator.choice(by_life[life], size=len(by_life[life])) for life in chosen]
        drawn.append(np.concatenate(rounds)[: len(lives)])
    shortest = min(map(len, drawn))
    return np.array([one[:shortest] for one in drawn], np.int64)


def speedup(engine: Rounds, over: Rounds, seed: int) -> Speedup:
    """The speedup of `engine` over another of the same rounds."""
    ratios = over.medians() / engine.medians()
    resampled = np.median(ratios[draws(engine.lives, seed)], axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Speedup(float(np.median(ratios)), (float(low), float(high)))


def versus_best(engine: Rounds, peers: Mapping[str, Rounds], seed: int) -> tuple[str, Speedup]:
    """The peer over which `engine` gains least, and the speedup over that one.

    The best of several equal peers was lucky: the ratio errs on the side of the peers.
    """
    own = engine.medians()
    least = {name: float(np.median(peer.medians() / own)) for name, peer in peers.items()}
    best = min(least, key=lambda name: least[name])
    return best, speedup(engine, peers[best], seed)


def median_ms(rounds: Rounds, seed: int) -> tuple[float, float, float]:
    """The median over the rounds' medians in milliseconds, and the ends of its interval."""
    medians = 1e3 * rounds.medians()
    resampled = np.median(medians[draws(rounds.lives, seed)], axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(np.median(medians)), float(low), float(high)


def judge(ratio: Speedup) -> Verdict:
    """Faster or slower where the whole interval and more than SAME say so.

    One engine in two processes differs by up to SAME: an interval of rounds alone does not know.
    """
    low, high = ratio.ci95
    if low > 1 and ratio.median > SAME:
        return Verdict.FASTER
    if high < 1 and ratio.median < 1 / SAME:
        return Verdict.SLOWER
    return Verdict.SAME
