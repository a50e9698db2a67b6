"""How one inference is timed: what is asked of a device's clock, and the CPU's.

A clock puts an input in place and gives back an inference that can be run and timed. On every
device it is timed end to end, from host memory to host memory. A GPU's (`measure/cuda_clock.py`)
also tells what the device alone took; on a CPU there are no transfers, so that is the same.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from exporter.targets import Array, MachineKind

Run = Callable[[], object]
"""One inference on an input that is already in place."""
Place = Callable[[Any], Run]
"""Puts an input in place: an array on a CPU, a tensor in a GPU's memory."""

WINDOW_S: Final = 0.1
"""Length of one window of the warm-up, in seconds, but at least WINDOW_INFERENCES long."""
WINDOW_INFERENCES: Final = 3
SETTLED: Final = 0.03
"""The warm-up ends once the medians of two neighbouring windows differ by less than this part."""
WARM_UP_LIMIT_S: Final = 2.0


@dataclass(frozen=True)
class Times:
    """The durations of some inferences back to back, in seconds."""

    end_to_end_s: Sequence[float]
    compute_s: Sequence[float] = ()
    """Of the device alone, as many; empty on a CPU."""


class Timed(Protocol):
    """One inference whose input is in place."""

    def run(self) -> object:
        """The answer to the input, in host memory."""
        ...

    def time(self, count: int) -> Times:
        """How long `count` inferences took."""
        ...

    def sustain(self, seconds: float) -> int:
        """Runs back to back for so long, with no pause; returns how many inferences ended."""
        ...


class Clock(Protocol):
    """What times the inferences of one device."""

    device: ClassVar[MachineKind]

    def place(self, place: Place, batch: Array) -> Timed:
        """Puts a batch (N, ...) in place."""
        ...


class WallClock:
    """The CPU's: host memory is where everything is."""

    device: ClassVar = MachineKind.CPU

    def place(self, place: Place, batch: Array) -> OnHost:
        return OnHost(place(batch))


class OnHost:
    """An inference on the CPU."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def run(self) -> object:
        return self._run()

    def time(self, count: int) -> Times:
        return Times(sample_s(self._run, count))

    def sustain(self, seconds: float) -> int:
        return repeat(self._run, seconds)


def sample_s(run: Run, count: int) -> list[float]:
    """The durations of `count` calls back to back, in seconds."""
    samples = []
    gc.disable()
    try:
        for _ in range(count):
            start = time.perf_counter()
            run()
            samples.append(time.perf_counter() - start)
    finally:
        gc.enable()
    return samples


def repeat(run: Run, seconds: float) -> int:
    """Calls `run` for so long, at least once; returns how often."""
    count, begin = 0, time.perf_counter()
    while not count or time.perf_counter() - begin < seconds:
        run()
        count += 1
    return count


@dataclass(frozen=True)
class WarmUp:
    """How long it took until the times no longer fell."""

    inferences: int
    median_s: float
    """Of the last window, end to end."""


def warm_up(timed: Timed) -> WarmUp:
    """Runs until the median of a window equals that of the window before, within SETTLED."""
    begin = time.perf_counter()
    inferences = 0
    previous = float("inf")
    while True:
        window = list(timed.time(WINDOW_INFERENCES).end_to_end_s)
        while sum(window) < WINDOW_S:
            window += timed.time(WINDOW_INFERENCES).end_to_end_s
        inferences += len(window)
        median = statistics.median(window)
        settled = abs(median - previous) < SETTLED * median
        if settled or time.perf_counter() - begin > WARM_UP_LIMIT_S:
            return WarmUp(inferences, median)
        previous = median
