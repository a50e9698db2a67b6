"""How an inference is timed: the warm-up, and the clock of the CPU."""

from __future__ import annotations

import time

import numpy as np
import pytest

from exporter.measure import clock
from exporter.measure.clock import OnHost, WallClock
from exporter.targets import MachineKind


def test_the_wall_clock_times_what_was_placed_from_host_memory_to_host_memory() -> None:
    calls = []

    def place(batch: object) -> clock.Run:
        return lambda: calls.append(batch)

    batch = np.zeros((1, 3, 4, 4))
    timed = WallClock().place(place, batch)
    times = timed.time(5)
    assert WallClock.device is MachineKind.CPU
    assert len(times.end_to_end_s) == 5
    assert min(times.end_to_end_s) > 0
    assert times.compute_s == ()
    assert timed.sustain(0.0) == 1
    assert len(calls) == 6
    assert all(call is batch for call in calls)


def test_warm_up_ends_when_two_windows_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    now, durations = 0.0, iter([0.5] * 3 + [0.2] * 3 + [0.1] * 3 + [0.101] * 3 + [0.1] * 99)

    def run() -> None:
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(clock, "WARM_UP_LIMIT_S", 100)
    reply = clock.warm_up(OnHost(run))
    assert reply.inferences == 12
    assert reply.median_s == pytest.approx(0.101)


def test_warm_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now, count = 0.0, 0

    def run() -> None:
        nonlocal now, count
        count += 1
        now += 0.1 * 1.2**count  # never settles

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert clock.warm_up(OnHost(run)).inferences == count
    assert now < 3 * clock.WARM_UP_LIMIT_S
