"""What is called slower and what is not, on noise recorded in a real run. Nothing is timed here."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import (
    Rounds,
    Verdict,
    draws,
    judge,
    median_ms,
    speedup,
    versus_best,
)
from exporter.measure.statistics import paired_speedup
from exporter.measure.timing import Speedup
from tests.benchmarks.noise import delayed, recorded

NOISE = recorded()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", NOISE)
def test_a_delay_of_five_percent_is_called_slower_and_none_is_not(name: str, turned: bool) -> None:
    engine, peer = NOISE[name][::-1] if turned else NOISE[name]
    assert judge(speedup(engine, peer, 0)) is Verdict.SAME
    assert judge(speedup(delayed(engine, 1.05), peer, 0)) is Verdict.SLOWER
    assert judge(speedup(delayed(engine, 0.95), peer, 0)) is Verdict.FASTER


def test_verdicts_need_the_whole_interval_and_more_than_two_percent() -> None:
    assert judge(Speedup(0.95, (0.94, 0.99))) is Verdict.SLOWER
    assert judge(Speedup(0.95, (0.90, 1.01))) is Verdict.SAME
    assert judge(Speedup(0.985, (0.98, 0.99))) is Verdict.SAME
    assert judge(Speedup(1.05, (1.01, 1.09))) is Verdict.FASTER


def test_the_speedup_is_that_of_the_exporters_own_measurement() -> None:
    engine, peer = next(iter(NOISE.values()))
    ours = speedup(engine, peer, 0)
    theirs = paired_speedup(peer.samples_s, engine.samples_s, 0)
    assert ours.median == pytest.approx(theirs.median)
    assert ours.ci95 == pytest.approx(theirs.ci95, abs=0.02)


def test_the_best_peer_is_the_one_over_which_least_is_gained() -> None:
    engine, slow, fast = (Rounds([[t]] * 10, [0] * 10) for t in (2.0, 5.0, 3.0))
    name, ratio = versus_best(engine, {"slow": slow, "fast": fast}, 0)
    assert (name, ratio.median, ratio.ci95) == ("fast", 1.5, (1.5, 1.5))


def test_being_compared_with_the_best_of_equals_errs_on_the_side_of_the_peers() -> None:
    """Four equal engines, one of them ours: never called faster, and seldom slower."""
    rng = np.random.default_rng(0)

    def noisy() -> Rounds:
        return Rounds([[t] for t in np.exp(0.03 * rng.standard_normal(30))], [0] * 30)

    found = [
        versus_best(noisy(), {"a": noisy(), "b": noisy(), "c": noisy()}, trial)[1]
        for trial in range(40)
    ]
    verdicts = [judge(ratio) for ratio in found]
    assert Verdict.FASTER not in verdicts
    assert verdicts.count(Verdict.SLOWER) <= 4
    assert np.median([ratio.median for ratio in found]) < 1


def test_the_lives_of_a_process_widen_the_interval() -> None:
    """Two lives that differ by 3 %: rounds alone do not know that a third would differ again."""
    times = [[1.0]] * 15 + [[1.03]] * 15
    peer = Rounds([[1.0]] * 30, [0] * 15 + [1] * 15)
    low, high = speedup(Rounds(times, peer.lives), peer, 0).ci95
    assert low == pytest.approx(1 / 1.03)
    assert high == 1
    single = [[t] for t in np.linspace(1, 1.001, 30)]
    narrow = speedup(Rounds(single, [0] * 30), Rounds([[1.0]] * 30, [0] * 30), 0)
    assert narrow.ci95[1] - narrow.ci95[0] < 0.001


def test_draws_take_rounds_of_whole_lives() -> None:
    lives = [0] * 4 + [1] * 4
    for drawn in draws(lives, 0):
        first, second = drawn[:4] // 4, drawn[4:] // 4
        assert len(set(first)) == len(set(second)) == 1


def test_the_median_of_a_group_is_in_milliseconds() -> None:
    assert median_ms(Rounds([[0.002, 0.002, 9.0]] * 8, [0] * 8), 0) == (2, 2, 2)
