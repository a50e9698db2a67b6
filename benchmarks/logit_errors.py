"""Errors of logits against float32, image by image, and how those of two quantizers compare.

    rms error     sqrt(mean over draws, images and classes of (logit - float32 logit)^2)
    ratio         rms error of one / rms error of the other, both on the same images
    flip          an answer that is not float32's
    more flips    flips a draw of one - flips a draw of the other, both on the same images

A ratio's interval is the 2.5th to the 97.5th percentile over resamplings of the *images*, each
taken with all its draws and for both quantizers alike: a few images carry much of the error, and
both err on the same ones. Which near ties flip differs from draw to draw, so for flips the draws
are resampled too, independently of the images (the pigeonhole bootstrap: Owen 2007, "The pigeonhole
bootstrap").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.prove.distance import relative_l2, sqnr_db

Floats = npt.NDArray[np.float64]

RESAMPLES: Final = 2000


@dataclass(frozen=True)
class Ratio:
    """How one rms error compares with another; below 1 the first is smaller."""

    value: float
    ci95: tuple[float, float]
    by_draw: tuple[float, ...]


@dataclass(frozen=True)
class MoreFlips:
    """How many more answers a draw one quantizer flips than another; below 0 it flips fewer."""

    value: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Answers:
    """The logits of one quantizer, (draws, images, classes), and what they should be."""

    logits: Floats
    expected: Floats
    """(images, classes), float32's."""
    labels: npt.NDArray[np.int64] | None

    def squared(self) -> Floats:
        """The squared error of each image, (draws, images)."""
        squared: Floats = ((self.logits - self.expected) ** 2).sum(axis=2)
        return squared

    def flips(self) -> npt.NDArray[np.bool_]:
        """Whether each image's answer is not float32's, (draws, images)."""
        flips: npt.NDArray[np.bool_] = self.logits.argmax(axis=2) != self.expected.argmax(axis=1)
        return flips

    def figures(self) -> dict[str, Any]:
        """Every figure of the table, over all draws."""
        error = self.logits - self.expected
        flips = self.flips()
        classes = self.expected.shape[1]
        probability = np.abs(softmax(self.logits) - softmax(self.expected)).mean()
        return {
            "rms": float(np.sqrt((error**2).mean())),
            "rms_by_draw": [float(x) for x in np.sqrt(self.squared().mean(axis=1) / classes)],
            "rel_l2": relative_l2(error, np.broadcast_to(self.expected, error.shape)),
            "sqnr_db": sqnr_db(error, np.broadcast_to(self.expected, error.shape)),
            "probability_error": float(probability),
            "top1_agreement": float((~flips).mean()),
            "flips_by_draw": [int(count) for count in flips.sum(axis=1)],
            "top1": None
            if self.labels is None
            else float((self.logits.argmax(axis=2) == self.labels).mean()),
        }


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result


def ratio_of(one: Floats, other: Floats, seed: int) -> Ratio:
    """Of two arrays of squared errors (draws, images)."""
    images = one.shape[1]
    drawn = np.random.default_rng(seed).integers(0, images, size=(RESAMPLES, images))
    mine, theirs = one.sum(axis=0), other.sum(axis=0)
    resampled = np.sqrt(mine[drawn].sum(axis=1) / theirs[drawn].sum(axis=1))
    low, high = np.percentile(resampled, [2.5, 97.5])
    by_draw = np.sqrt(one.sum(axis=1) / other.sum(axis=1))
    return Ratio(
        float(np.sqrt(mine.sum() / theirs.sum())),
        (float(low), float(high)),
        tuple(float(ratio) for ratio in by_draw),
    )


def more_flips(one: Answers, other: Answers, seed: int) -> MoreFlips:
    """Of two quantizers with the same draws and images."""
    more = one.flips().astype(np.int64) - other.flips()
    draws, images = more.shape
    generator = np.random.default_rng(seed)
    resampled = []
    for _ in range(RESAMPLES):
        of_image = more[generator.integers(0, draws, size=draws)].sum(axis=0)
        resampled.append(of_image[generator.integers(0, images, size=images)].sum() / draws)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return MoreFlips(float(more.sum() / draws), (float(low), float(high)))


def stack(by_draw: Sequence[Floats]) -> Floats:
    """(draws, images, classes)."""
    return np.stack(by_draw).astype(np.float64)
