"""What counts of calls under load. No test asserts how long anything takes."""

from __future__ import annotations

import threading
import time

import pytest

from exporter.measure.callers import Window, counted, under_load


def window(length: float = 0.1, margin: float = 0.05) -> Window:
    begin = time.monotonic() + margin
    return Window(begin, begin + length, margin)


def test_a_call_counts_with_the_part_within_the_window() -> None:
    calls = [
        (0.0, 0.5, 1.5),  # asked, begun, answered: half of it before
        (1.0, 1.5, 2.0),
        (1.5, 1.9, 3.9),  # two seconds, a tenth of them within
        (0.0, 0.0, 9.0),
        (3.0, 3.0, 4.0),
    ]
    found = counted(calls, Window(1.0, 2.1, 0.0))
    assert found.calls == pytest.approx(0.5 + 1 + 0.1 + 1.1 / 9)
    assert found.waits_s == [1.5, 1.0, 2.4, 9.0]


@pytest.mark.parametrize(("callers", "streams"), [(1, 1), (3, 1), (4, 2), (2, 2), (1, 3)])
def test_no_more_calls_run_at_once_than_there_are_streams(callers: int, streams: int) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def run() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    found = under_load(run, callers=callers, streams=streams, window=window())
    assert most <= streams
    assert found.calls > 0
    # With one stream a caller waits for all others before it is served again.
    assert min(found.waits_s) >= 0.002 * (callers if streams == 1 else 1)


@pytest.mark.parametrize("callers", [1, 3])
def test_a_failing_call_is_told(callers: int) -> None:
    def run() -> None:
        raise ValueError("no such engine")

    with pytest.raises(ValueError, match="no such engine"):
        under_load(run, callers=callers, streams=2, window=window())
