"""How one engine changed: what is called slower, and what is noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exporter.commands.compare_engine import (
    ROUNDING,
    Change,
    ErrorChange,
    error_change,
    relative_time,
    speed_changes,
)
from exporter.measure.statistics import paired_speedup
from exporter.measure.timing import Speedup
from exporter.report.flat import EngineRow, TimingRow


def row(speedup: Speedup | None = None, *, rel_l2: float | None = 0.01) -> EngineRow:
    timings: tuple[TimingRow, ...] = ()
    if speedup is not None:
        low, high = speedup.ci95
        timings = (
            TimingRow(batch=1, threads=2, baseline="torch-eager", p50_ms=1.0,
                      speedup=speedup.median, speedup_low=low, speedup_high=high, stable=True),
        )  # fmt: skip
    return EngineRow(
        id="ort-cpu.int8", rejected=False, rel_l2=rel_l2, top1=None, parity_skipped=None,
        latency_skipped=None if speedup else "not asked for", latencies=timings,
    )  # fmt: skip


def test_the_interval_is_mover_s() -> None:
    assert relative_time((2, 2, 2), (1, 1, 1)) == pytest.approx((2, 2, 2))
    ratio, low, high = relative_time((4, 4 / math.e**0.03, 4 * math.e**0.04),
                                     (2, 2 / math.e**0.03, 2 * math.e**0.04))  # fmt: skip
    assert (ratio, low, high) == pytest.approx((2, 2 * math.exp(-0.05), 2 * math.exp(0.05)))


def resampled(random: np.random.Generator, delay: float) -> Speedup:
    """A run of 30 rounds: the noise of both sides is long-tailed, as on a shared machine."""
    baseline = [list(50 * random.lognormal(0, 0.02, 3)) for _ in range(30)]
    engine = [list(10 * (1 + delay) * random.lognormal(0, 0.02, 9)) for _ in range(30)]
    for round_ in engine:
        round_[0] *= random.choice([1.0, 1.6], p=[0.9, 0.1])
    return paired_speedup(baseline, engine, seed=0)


def test_five_percent_of_delay_is_found_and_none_is_not_made_up() -> None:
    random = np.random.default_rng(0)
    found = {0.0: 0, 0.05: 0}
    runs = 60
    for delay in found:
        for _ in range(runs):
            old, new = row(resampled(random, 0.0)), row(resampled(random, delay))
            ((change,), reasons) = speed_changes(old, new)
            assert reasons == []
            found[delay] += change.change is Change.SLOWER
    assert found[0.05] >= 0.95 * runs
    assert found[0.0] <= 0.02 * runs


@pytest.mark.parametrize(
    "speedup",
    [
        Speedup(math.nan, (1.0, 2.0)),
        Speedup(math.inf, (1.0, math.inf)),
        Speedup(1e308, (1e308, 1e308)),
        Speedup(0.0, (0.0, 0.0)),
        Speedup(-1.0, (-2.0, 1.0)),
        Speedup(3.0, (1.0, 2.0)),
    ],
)
def test_what_is_no_speedup_is_not_compared(speedup: Speedup) -> None:
    good = row(Speedup(1.5, (1.4, 1.6)))
    for old, new, side in ((row(speedup), good, "OLD"), (good, row(speedup), "NEW")):
        changes, ((name, reason),) = speed_changes(old, new)
        assert (changes, name) == ([], "ort-cpu.int8")
        assert reason.startswith(f"batch 1: {side} has no speedup inside its interval")


def test_rounding_of_float32_is_no_growth() -> None:
    def growth(old: float, new: float) -> float:
        change = error_change(row(rel_l2=old), row(rel_l2=new), None)
        assert isinstance(change, ErrorChange)
        return change.growth

    assert growth(ROUNDING / 8, ROUNDING) == 0.0
    assert growth(0.0, ROUNDING * 2) == pytest.approx(1.0)


@pytest.mark.parametrize("error", [math.nan, math.inf, None])
def test_an_error_that_is_no_number_is_not_compared(error: float | None) -> None:
    assert error_change(row(), row(rel_l2=error), None) == f"no error in NEW (rel_l2 is {error})"
