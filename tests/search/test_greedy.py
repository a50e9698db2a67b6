"""The search on real engines, with costs that are given: what it chooses, each time the same."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import pytest

from exporter.progress import Silent
from exporter.search.budget import Budget, BudgetKind
from exporter.search.greedy import Found, search
from exporter.search.points import Kept, PointFile, front
from tests.search.engines import BASE_MS, COSTS, HURT, Engines, Times

LIMIT_DB = 20.0


def sqnr(limit_db: float) -> Budget:
    return Budget(BudgetKind.MIN_SQNR, limit_db)


def found_for(engines: Engines, limit_db: float) -> Found:
    return search(engines.trials(limit_db, PointFile(None, Silent())), sqnr(limit_db))


def test_it_keeps_the_block_that_int8_hurts_and_no_other(engines: Engines) -> None:
    found = found_for(engines, LIMIT_DB)
    assert found.chosen is not None
    assert found.chosen.kept == (HURT,)
    assert found.chosen.ms == pytest.approx(BASE_MS + COSTS[HURT])
    assert found.held_out.sqnr_db >= LIMIT_DB
    assert found.looks == 1


def test_no_set_that_keeps_the_budget_is_cheaper(engines: Engines) -> None:
    trials = engines.trials(LIMIT_DB, PointFile(None, Silent()))
    found = search(trials, sqnr(LIMIT_DB))
    assert found.chosen is not None
    units = list(COSTS)
    every = [trials.at(kept) for size in range(3) for kept in combinations(units, size)]
    holding = [point.ms for point in every if sqnr(LIMIT_DB).holds(point.figures)]
    assert found.chosen.ms == min(holding)


def test_a_stricter_budget_takes_more_blocks_and_gives_none_back_that_it_needs(
    engines: Engines,
) -> None:
    budget = sqnr(35.0)
    trials = engines.trials(35.0, PointFile(None, Silent()))
    found = search(trials, budget)
    assert found.chosen is not None
    assert len(found.chosen.kept) > 1
    for unit in found.chosen.kept:
        without = trials.at(other for other in found.chosen.kept if other != unit)
        assert not budget.holds(without.figures)
    assert len(front(trials.points)) >= 4


class Conversions(Times):
    """Float costs little here, and each change between float and 8 bits a lot."""

    def ratio(self, kept: Kept, engine: Path) -> float:
        super().ratio(kept, engine)
        changes = sum((a in kept) != (b in kept) for a, b in pairwise(COSTS))
        return 1 + 0.02 * len(kept) + 0.3 * changes


def test_where_conversions_cost_most_it_finds_the_long_run_of_float(engines: Engines) -> None:
    budget = sqnr(LIMIT_DB)
    trials = engines.trials(LIMIT_DB, PointFile(None, Silent()), Conversions())
    found = search(trials, budget)
    assert found.chosen is not None
    assert len(found.chosen.kept) > 1
    every = [trials.at(kept) for size in range(5) for kept in combinations(COSTS, size)]
    assert found.chosen.ms == min(p.ms for p in every if budget.holds(p.figures))


class OneSlow(Conversions):
    """The same, but one of the long runs had bad luck: the one that is timed first."""

    def ratio(self, kept: Kept, engine: Path) -> float:
        dearest = max(COSTS, key=lambda unit: COSTS[unit])
        unlucky = len(kept) == len(COSTS) - 1 and dearest not in kept
        return super().ratio(kept, engine) * (3 if unlucky else 1)


def test_one_slow_set_at_the_other_end_does_not_hide_the_fast_ones(engines: Engines) -> None:
    budget = sqnr(LIMIT_DB)
    times = Conversions()
    expected = search(engines.trials(LIMIT_DB, PointFile(None, Silent()), times), budget)
    found = search(engines.trials(LIMIT_DB, PointFile(None, Silent()), OneSlow()), budget)
    assert expected.chosen is not None
    assert found.chosen is not None
    assert found.chosen.ms == pytest.approx(expected.chosen.ms)


def test_the_same_costs_give_the_same_search(engines: Engines) -> None:
    assert found_for(engines, 35.0) == found_for(engines, 35.0)


def test_int8_is_chosen_where_it_keeps_the_budget_itself(engines: Engines) -> None:
    found = found_for(engines, 0.1)
    assert found.chosen is not None
    assert found.chosen.kept == ()


def test_a_budget_out_of_reach_names_the_nearest_set(engines: Engines) -> None:
    found = found_for(engines, 119.0)
    assert found.chosen is None
    assert found.looks == 0
    assert len(found.best.kept) == len(COSTS) - 1
    assert found.held_out.sqnr_db < 119


class StoppedError(Exception):
    """As Ctrl-C, in the middle of a search."""


class StoppingTimes(Times):
    """Times that stop the search at one set."""

    def ratio(self, kept: tuple[str, ...], engine: Path) -> float:
        if len(self.timed) == 4:
            raise StoppedError
        return super().ratio(kept, engine)


def test_a_search_that_was_stopped_goes_on_where_it_was(engines: Engines, tmp_path: Path) -> None:
    path, uninterrupted, after = tmp_path / "points.jsonl", Times(), Times()
    whole = search(engines.trials(35.0, PointFile(None, Silent()), uninterrupted), sqnr(35.0))
    stopping = StoppingTimes()
    with pytest.raises(StoppedError):
        search(engines.trials(35.0, PointFile(path, Silent()), stopping), sqnr(35.0))
    with path.open("a") as file:
        file.write('\n{"kept": ["stem"')  # what a process that was killed leaves
    assert search(engines.trials(35.0, PointFile(path, Silent()), after), sqnr(35.0)) == whole
    assert stopping.timed + after.timed == uninterrupted.timed
    again = Times()
    assert search(engines.trials(35.0, PointFile(path, Silent()), again), sqnr(35.0)) == whole
    assert again.timed == []


class Unlucky(Times):
    """A set looks slower than it is when it is timed first; layer1 costs next to nothing."""

    def __init__(self, kept: Kept, factor: float) -> None:
        super().__init__()
        self.kept, self.factor = kept, factor

    def ratio(self, kept: Kept, engine: Path) -> float:
        first = kept not in self.timed
        ratio = super().ratio(kept, engine) - (0.9 * COSTS["layer1"] if "layer1" in kept else 0)
        return ratio * (self.factor if first and kept == self.kept else 1)


def test_a_set_that_had_bad_luck_is_timed_again(engines: Engines) -> None:
    """So it is taken, though with layer1 it looked faster."""
    budget = sqnr(35.0)

    def chosen(times: Times) -> Kept:
        found = search(engines.trials(35.0, PointFile(None, Silent()), times), budget)
        assert found.chosen is not None
        return found.chosen.kept

    best = chosen(Unlucky((), 1))
    assert "layer1" not in best
    assert chosen(Unlucky(best, 1.04)) == best
