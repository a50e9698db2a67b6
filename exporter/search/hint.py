"""What would mend an INT8 engine that failed its parity gate: which blocks to keep in float.

Each unit is kept in float alone, once: what it takes away of the error is what it carries. Then the
set grows by error gained per millisecond until it would pass the gate; each of these is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from exporter.artifact import Skipped
from exporter.search.budget import Figures
from exporter.search.greedy import LEAST_COST
from exporter.search.points import Point
from exporter.search.trials import Trials

CARRIES: Final = 0.05
"""A unit with a smaller part of the error is not named."""
MARGIN_DB: Final = 1.0
"""By how much a set must be above the gate's SQNR: it is judged on a part of the inputs."""


@dataclass(frozen=True)
class Hint:
    """What was found."""

    carriers: tuple[tuple[str, float], ...]
    """(unit, its part of the error's power), the largest first."""
    int8_ms: float
    passing: Point | None
    """A set that would pass; None: none does, but with everything in float."""

    @property
    def in_words(self) -> str:
        """What to know of it, and what to do."""
        parts = ", ".join(f"{unit} ({share:.0%})" for unit, share in self.carriers)
        where = f"its error comes from {parts}" if parts else "its error comes from all blocks"
        if self.passing is None:
            return f"{where}; no set of blocks in float was found that passes: build fp32"
        kept, decibels = ", ".join(self.passing.kept), self.min_sqnr
        return (
            f"{where}; the same export with --min-sqnr {decibels} would pass: with {kept} in float "
            f"it takes about {self.passing.ms:.2f} ms where INT8 takes {self.int8_ms:.2f}"
        )

    @property
    def min_sqnr(self) -> int:
        """The budget that a set like the passing one keeps."""
        assert self.passing is not None
        return max(1, math.floor(self.passing.figures.sqnr_db - MARGIN_DB))


def find_hint(trials: Trials, limits: Mapping[str, float], advance: Callable[[int], None]) -> Hint:
    """What would let the engine keep the gate's limits; `advance`: one step for each unit.

    Raises:
        BuildError: an engine cannot be built, run or timed.
    """
    nothing = trials.at(())
    error = nothing.figures.error
    gains: dict[str, float] = {}
    worth: dict[str, float] = {}
    for unit in trials.units:
        alone = trials.at((unit,))
        gains[unit] = error - alone.figures.error
        worth[unit] = gains[unit] / max(alone.ms - nothing.ms, LEAST_COST * nothing.ms)
        advance(1)
    carriers = sorted(gains, key=lambda unit: -gains[unit])
    shares = tuple((unit, gains[unit] / error) for unit in carriers)
    kept: list[str] = []
    passing = None
    for unit in sorted(trials.units, key=lambda unit: -worth[unit])[:-1]:
        kept.append(unit)
        point = trials.at(kept)
        if _passes(point.figures, limits):
            passing = point
            break
    return Hint(tuple(one for one in shares if one[1] >= CARRIES), nothing.ms, passing)


def _passes(figures: Figures, limits: Mapping[str, float]) -> bool:
    if figures.sqnr_db < limits["sqnr_db"] + MARGIN_DB:
        return False
    if not isinstance(figures.drop, Skipped):
        return figures.drop <= limits["top1_drop"]
    return isinstance(figures.agreement, Skipped) or figures.agreement >= limits["top1_agreement"]
