"""A process under load, its own side: callers who each ask again once they are answered.

Their calls stand in one queue, first come, first served, as those of a server's clients do. A call
that lasts beyond an end of the window counts with the part that lies within, so that long calls are
counted neither too often nor too seldom.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue


@dataclass(frozen=True)
class Window:
    """What is counted, on `time.monotonic`'s clock, which all processes of a machine share."""

    begin: float
    end: float
    margin: float
    """For so long before and after it there is load that is not counted."""


@dataclass(frozen=True)
class Counted:
    """What happened in a window."""

    calls: float
    """Parts of calls included."""
    waits_s: list[float]
    """Of each call that ran within it, from asking to the answer."""
    calls_s: list[float]
    """Of the same calls without their wait for others."""


def under_load(run: Callable[[], object], *, callers: int, streams: int, window: Window) -> Counted:
    """Keeps `callers` calls waiting or running, `streams` of them at once, through the window."""
    asked: SimpleQueue[float] = SimpleQueue()
    done: list[tuple[float, float, float]] = []
    failures: list[Exception] = []
    last = window.end + window.margin

    def serve() -> None:
        while True:
            since = asked.get()
            begin = time.monotonic()
            if begin >= last or failures:
                asked.put(since)  # for the next thread to end by, where callers are fewer
                return
            try:
                run()
            except Exception as error:  # raised again below, in the thread that asked
                failures.append(error)
                asked.put(since)
                return
            end = time.monotonic()
            done.append((since, begin, end))
            asked.put(end)

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(streams)]
    time.sleep(max(0.0, window.begin - window.margin - time.monotonic()))
    for _ in range(callers):
        asked.put(time.monotonic())
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return counted(done, window)


def counted(done: list[tuple[float, float, float]], window: Window) -> Counted:
    """From when each call was asked, begun and answered."""
    inside = [
        max(0.0, min(end, window.end) - max(begin, window.begin)) / (end - begin)
        for _, begin, end in done
    ]
    # A call that runs when the window ends has waited under load, too.
    within = [one for one in done if one[1] < window.end and one[2] >= window.begin]
    return Counted(
        sum(inside),
        [end - since for since, _, end in within],
        [end - begin for _, begin, end in within],
    )
