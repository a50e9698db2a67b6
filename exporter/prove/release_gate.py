"""May it be released? Counts of paired answers in, a decision out, with bounds that are exact.

A limit is kept where the upper bound of what it limits is within it, and missed where the lower
bound is beyond; between the two there are not enough images. Pure functions of counts: whoever has
counted in parts adds them up first (`Counts.__add__`).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.prove.bounds import rate_at_least, rate_at_most
from exporter.prove.gate_record import Decision

Floats = npt.NDArray[np.float64]

TRIALS: Final = 400
"""Simulated continuations of what was seen, at each number of images that is tried."""
DECIDED: Final = 0.8
"""The share of them that must come to a decision."""
MOST_IMAGES: Final = 10_000_000
_STEP: Final = 1.05
"""From one number of images that is tried to the next."""


@dataclass(frozen=True)
class Limits:
    """What a release may cost, each as a share of the images."""

    max_drop: float
    max_flips: float
    confidence: float


@dataclass(frozen=True)
class Counts:
    """Images by what became of the reference's answer; each image is in one of them.

    "Kept" is the same class, "flipped" another one, "tied" an image of which the reference itself
    cannot tell its two best classes apart: it counts as no flip, but may lose or gain an answer.
    """

    kept: int
    flipped: int
    """Neither answer is right, or there are no labels."""
    flipped_lost: int = 0
    """The reference alone is right."""
    flipped_gained: int = 0
    """The engine alone is right."""
    tied: int = 0
    tied_lost: int = 0
    tied_gained: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def images(self) -> int:
        return sum(astuple(self))

    @property
    def judged(self) -> int:
        """Images that are no near-ties."""
        return self.kept + self.flips

    @property
    def flips(self) -> int:
        return self.flipped + self.flipped_lost + self.flipped_gained

    @property
    def near_ties(self) -> int:
        return self.images - self.judged

    @property
    def lost(self) -> int:
        return self.flipped_lost + self.tied_lost

    @property
    def gained(self) -> int:
        return self.flipped_gained + self.tied_gained


def drop_between(lost: int, gained: int, images: int, confidence: float) -> tuple[float, float]:
    """The one-sided bounds of a drop in accuracy, from below and from above.

    The drop is d (2 s - 1), where d is the share of images on which one answer alone is right and s
    the share of those that are lost (McNemar's discordant pairs). Each of d and s gets an exact
    bound at half the error, so that both hold with the confidence (Bonferroni): unlike a bound that
    takes d as known, this one is honest where nothing was lost in a handful of images.
    """
    differ, each = lost + gained, (1 + confidence) / 2
    share = (0.0, 1.0)
    if differ:
        share = (rate_at_least(lost, differ, each), rate_at_most(lost, differ, each))
    rate = (rate_at_least(differ, images, each), rate_at_most(differ, images, each))
    low, high = (2 * one - 1 for one in share)
    return low * rate[low < 0], high * rate[high > 0]


def decide(counts: Counts, limits: Limits, labelled: bool) -> Decision:
    """Of one engine: every limit kept, one missed, or neither."""
    found = [
        (
            rate_at_least(counts.flips, counts.judged, limits.confidence),
            rate_at_most(counts.flips, counts.judged, limits.confidence),
            limits.max_flips,
        )
    ]
    if labelled:
        drop = drop_between(counts.lost, counts.gained, counts.images, limits.confidence)
        found.append((*drop, limits.max_drop))
    if any(low > limit for low, _, limit in found):
        return Decision.FAIL
    return Decision.PASS if all(high <= limit for _, high, limit in found) else Decision.UNDECIDED


def more_images(counts: Counts, limits: Limits, labelled: bool) -> int | None:
    """About how many more images would decide; None: more than MOST_IMAGES.

    What was seen is continued TRIALS times by drawing from it, and the answer is the least number
    after which DECIDED of the continuations decide. The same counts give the same answer.
    """
    seen = np.array(astuple(counts))
    total = float(counts.images)
    while (total := total * _STEP + 1) <= MOST_IMAGES:
        more = int(total) - counts.images
        # A generator of its own for each number: neighbours differ by the number alone.
        drawn = np.random.default_rng(0).multinomial(more, seen / seen.sum(), TRIALS)
        if _decided(seen + drawn, limits, labelled).mean() >= DECIDED:
            return _rounded(more)
    return None


def _decided(drawn: npt.NDArray[Any], limits: Limits, labelled: bool) -> npt.NDArray[np.bool_]:
    """Which rows of counts (trials, 7) decide, by approximate bounds."""
    kept, flipped, flipped_lost, flipped_gained, _, tied_lost, tied_gained = drawn.T.astype(float)
    flips = flipped + flipped_lost + flipped_gained
    low, high = _approximately(flips, kept + flips, limits.confidence)
    missed, within = low > limits.max_flips, high <= limits.max_flips
    if labelled:
        lost = flipped_lost + tied_lost
        differ = lost + flipped_gained + tied_gained
        each = (1 + limits.confidence) / 2
        share = [2 * one - 1 for one in _approximately(lost, differ, each)]
        rate = _approximately(differ, drawn.sum(axis=1), each)
        low, high = (
            share[0] * np.where(share[0] < 0, rate[1], rate[0]),
            share[1] * np.where(share[1] > 0, rate[1], rate[0]),
        )
        missed, within = missed | (low > limits.max_drop), within & (high <= limits.max_drop)
    decided: npt.NDArray[np.bool_] = missed | within
    return decided


def _approximately(count: Any, trials: Any, confidence: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's bounds of arrays of counts, in closed form.

    Blyth, "Approximate binomial confidence limits", JASA 81 (1986), after Paulson, Camp and Pratt:
    within a hundredth of the exact ones, and a thousand times as quick.
    """
    z = NormalDist().inv_cdf(confidence)

    def upper(x: Floats, rest: Floats) -> Floats:
        """`x` seen and `rest` not seen."""
        n, a = x + rest, x + 1
        with np.errstate(divide="ignore", invalid="ignore"):
            root = 3 * z * np.sqrt(9 * a * rest * (9 * n + 5 - z * z) + n + 1)
            cubed = (81 * a * rest - 9 * n - 8 - root) / (81 * a * a - 9 * a * (2 + z * z) + 1)
            found: Floats = 1 / (1 + (a / rest) ** 2 * cubed**3)
        return np.where(rest == 0, 1.0, np.clip(found, 0.0, 1.0))

    return 1 - upper(trials - count, count), upper(count, trials - count)


def _rounded(number: int) -> int:
    """Up to two digits: it is no more exact than that."""
    unit = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // unit) * unit
