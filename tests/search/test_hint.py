"""What would mend an INT8 engine that failed its gate."""

from __future__ import annotations

from exporter.artifact import Precision
from exporter.progress import Silent
from exporter.prove.limits import LIMITS
from exporter.search.hint import find_hint
from exporter.search.points import PointFile
from tests.search.engines import BASE_MS, COSTS, HURT, Engines


def test_it_names_the_block_the_budget_and_the_time(engines: Engines) -> None:
    steps: list[int] = []
    trials = engines.trials(20.0, PointFile(None, Silent()))
    hint = find_hint(trials, LIMITS[Precision.INT8, True], steps.append)
    assert len(steps) == len(COSTS)
    assert hint.carriers[0][0] == HURT
    assert hint.carriers[0][1] > 0.9
    assert hint.passing is not None
    assert hint.passing.kept == (HURT,)
    words = hint.in_words
    assert f"--min-sqnr {hint.min_sqnr}" in words
    assert f"{BASE_MS + COSTS[HURT]:.2f} ms where INT8 takes {BASE_MS:.2f}" in words
    assert 21 <= hint.min_sqnr < hint.passing.figures.sqnr_db


def test_limits_that_no_set_keeps_are_told(engines: Engines) -> None:
    trials = engines.trials(20.0, PointFile(None, Silent()))
    hint = find_hint(trials, {"sqnr_db": 119.0, "top1_agreement": 0.9}, lambda _steps: None)
    assert hint.passing is None
    assert "build fp32" in hint.in_words
