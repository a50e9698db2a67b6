"""Which units to keep in float: greedily by error gained per measured millisecond, then pruned.

1. Each unit is kept alone once: what it gains in error and costs in time are its estimates.
2. The set grows by one unit at a time. Costs do not add up: a unit beside one that is kept already
   saves the conversions between the two. So in each step the MEASURED_A_STEP units with the best
   estimates are measured anew in the set as it is, and the neighbours of the unit that came last.
3. Where the budget holds on the inputs that guide the search, units that became needless are given
   back, those that cost most first.
4. Then from the other end: all units but one, and from the fastest set that holds more are given
   back. Where float is little slower, one long run of it beats blocks with conversions around each.
5. The fastest set of all that were measured and hold is held against the inputs that were held out.
   If the budget fails there, the set goes on growing.

What a decision hangs on is timed again, in several processes, and that counts: of many that were
timed once, the one that looks fastest had the most luck, and one that is as fast may have had none.
So all sets that are nearly as fast are timed again before one is taken.

For the same points the outcome is the same: ties fall to the unit that comes first in the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from exporter.search.budget import Budget, Figures
from exporter.search.points import Kept, Point
from exporter.search.trials import Trials

MEASURED_A_STEP: Final = 2
"""How many units are measured anew before one is taken, besides neighbours."""
MOST_GIVEN_BACK: Final = 8
"""How many units of a set are tried without at most, once the budget holds."""
TOO_SLOW: Final = 1.15
"""Where the first LOOKED_AT sets of all units but one each take at least so many times the fastest
set's time, the other end is left."""
LOOKED_AT: Final = 3
FINALISTS: Final = 1.05
"""Sets that take at most so many times the fastest one's time are timed again, the first
MOST_FINALISTS of them."""
MOST_FINALISTS: Final = 8
LEAST_COST: Final = 0.005
"""A cost below this part of the all-INT8 engine's time cannot be told from none; of sets that are
so near to the fastest, the one that keeps the fewest units is taken."""


@dataclass(frozen=True)
class Found:
    """What a search ended with."""

    chosen: Point | None
    """The fastest set that keeps the budget; None: no set that was tried does."""
    best: Point
    """The chosen set; where there is none, the one that comes nearest."""
    held_out: Figures
    """The best set's answers to the inputs that guided nothing."""
    looks: int
    """How many sets were held against those inputs, and against the budget."""

    def shortfall(self, budget: Budget) -> str:
        """What the best set reaches, where none keeps the budget, in words."""
        reached = budget.in_words(budget.of(self.held_out))
        kept = ", ".join(self.best.kept) or "no block"
        return (
            f"no set of blocks in float keeps {budget.option}: the best one tried reaches "
            f"{reached} on held-out inputs at {self.best.ms:.2f} ms, with {kept} in float; relax "
            "the budget, or build fp32"
        )


def search(
    trials: Trials, budget: Budget, advance: Callable[[int], None] = lambda _steps: None
) -> Found:
    """The units to keep; `advance` is called with 1 for each unit that was kept alone.

    Raises:
        BuildError: an engine cannot be built, run or timed.
    """
    return _Search(trials, budget).run(advance)


class _Search:
    def __init__(self, trials: Trials, budget: Budget) -> None:
        self.trials = trials
        self.budget = budget
        self.seen: dict[Kept, Point] = {}
        self.gained: dict[str, float] = {}
        """By unit: the error that it takes away per millisecond, as measured last."""
        self.failed: set[Kept] = set()
        """Sets whose held-out answers do not keep the budget."""
        self.looks = 0
        self.timed_twice: set[Kept] = set()

    def run(self, advance: Callable[[int], None]) -> Found:
        current = self.at(())
        advance(1)
        for unit in self.trials.units:
            self.gain(unit, current)
            advance(1)
        last: str | None = None
        chosen: Point | None = None
        from_the_end = False
        while chosen is None:
            if self.budget.holds(current.figures):
                self.give_back(current)
                if current.kept and not from_the_end:
                    self.come_from_the_other_end()
                    from_the_end = True
                chosen = self.confirmed()
            # Something must be left that computes in 8 bits.
            if len(current.kept) >= len(self.trials.units) - 1:
                break
            if chosen is None:
                last = self.next_unit(current, last)
                current = self.at((*current.kept, last))
        while chosen is None and self.holding():
            chosen = self.confirmed()
        best = chosen or self.nearest()
        return Found(chosen, best, self.trials.held_out(best.kept), self.looks)

    def holding(self) -> list[Point]:
        """The sets that hold where they were measured, and did not fail where they were not."""
        return [
            point
            for point in self.seen.values()
            if self.budget.holds(point.figures) and point.kept not in self.failed
        ]

    def nearest(self) -> Point:
        """The set that comes nearest to the budget."""
        return min(
            self.seen.values(),
            key=lambda point: (self.budget.short_by(point.figures), point.ms, point.kept),
        )

    def at(self, units: Iterable[str]) -> Point:
        point = self.trials.at(units)
        self.seen[point.kept] = point
        return point

    def timed_again(self, point: Point) -> Point:
        self.seen[point.kept] = point = self.trials.timed_again(point.kept)
        self.timed_twice.add(point.kept)
        return point

    def gain(self, unit: str, current: Point, *, again: bool = False) -> None:
        """Measures what one more unit brings; `again`: its time once more."""
        grown = self.at((*current.kept, unit))
        if again:
            grown = self.timed_again(grown)
        gained = current.figures.error - grown.figures.error
        lost_ms = max(grown.ms - current.ms, LEAST_COST * self.at(()).ms)
        # What gains nothing is better the less time it takes, not the more.
        self.gained[unit] = gained / lost_ms if gained > 0 else gained * lost_ms

    def next_unit(self, current: Point, last: str | None) -> str:
        units = self.trials.units
        free = [unit for unit in units if unit not in current.kept]
        fresh = sorted(free, key=lambda unit: -self.gained[unit])[:MEASURED_A_STEP]
        if last is not None:
            place = units.index(last)
            fresh += [unit for unit in units[max(0, place - 1) : place + 2] if unit in free]
        for unit in dict.fromkeys(fresh):
            self.gain(unit, current, again=not current.kept)  # then it was measured already
        return max(dict.fromkeys(fresh), key=lambda unit: self.gained[unit])

    def give_back(self, current: Point) -> None:
        """Measures the set without each unit that it can spare, those that cost most first."""
        kept = list(current.kept)
        costly = sorted(kept, key=lambda unit: -self.at((unit,)).ms)[:MOST_GIVEN_BACK]
        for unit in costly:
            without = [other for other in kept if other != unit]
            if self.budget.holds(self.at(without).figures):
                kept = without

    def come_from_the_other_end(self) -> None:
        """Measures the sets of all units but one, and smaller ones from the fastest that holds."""
        units = self.trials.units
        slow = TOO_SLOW * min(point.ms for point in self.holding())
        costly = sorted(units, key=lambda unit: -self.at((unit,)).ms)
        most: list[Point] = []
        for unit in costly:
            most.append(self.at(other for other in units if other != unit))
            # One alone may be slow by itself, or by bad luck.
            if len(most) == LOOKED_AT and all(point.ms > slow for point in most):
                return
        holding = [point for point in most if self.budget.holds(point.figures)]
        current = min(holding, key=lambda point: (point.ms, point.kept), default=None)
        if current is None:
            return
        for unit in costly:
            if unit in current.kept and len(current.kept) > 1:
                smaller = self.at(other for other in current.kept if other != unit)
                if self.budget.holds(smaller.figures) and smaller.ms <= current.ms:
                    current = smaller

    def confirmed(self) -> Point | None:
        """The fastest set that holds, if it holds on held-out inputs as well."""
        holding = self.holding()
        if not holding:
            return None
        holding.sort(key=lambda point: (point.ms, point.kept))
        near = [point for point in holding if point.ms <= FINALISTS * holding[0].ms]
        finalists = near[:MOST_FINALISTS]
        once = [p for p in finalists if p.kept and p.kept not in self.timed_twice]
        if once:
            for point in once:
                self.timed_again(point)
            return self.confirmed()
        least = holding[0].ms + LEAST_COST * self.at(()).ms
        alike = [point for point in finalists if point.ms <= least]
        fastest = min(alike, key=lambda point: (len(point.kept), point.figures.error, point.kept))
        self.looks += 1
        if self.budget.holds(self.trials.held_out(fastest.kept)):
            return fastest
        self.failed.add(fastest.kept)
        return None
