"""How many images a second a host answers, and how long each waits: the record, and the choice.

A layout is a number of processes, of calls that each computes side by side (streams), and of
threads of a call; their product is the cores. Every layout answers the same number of callers, as
many as there are cores, each of whom asks again once it is answered. So a latency has the time in
it that a call waits for others, and the p99 of two layouts compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from exporter.artifact import Skipped
from exporter.measure.timing import Speedup

BATCHES: Final = (1, 4, 8)
"""What is tried where no batch sizes are asked for."""
QUANTILES: Final = tuple(number / 100 for number in range(101))
"""Of the samples that are kept: what a simulation draws from."""
MOST_DIVISORS: Final = 5
"""How many numbers of threads are tried at most, on however many cores."""
SAME: Final = 1.02
"""Two layouts whose images a second differ by less answer as many."""


@dataclass(frozen=True)
class Layout:
    """How an engine uses the cores of a host."""

    processes: int
    streams: int
    """Calls side by side in each process."""
    threads: int
    """Of one call."""

    def __str__(self) -> str:
        shape = f"{self.processes} x {self.threads}"
        return shape if self.streams == 1 else f"{self.processes} x {self.streams} x {self.threads}"


@dataclass(frozen=True)
class ServedPoint:
    """One engine in one layout at one batch size, under load."""

    engine: str
    processes: int
    streams: int
    """Calls side by side in each process."""
    threads: int
    """Of one call."""
    batch: int
    rounds: int
    """One, where it was measured too slow in the first ones to be best."""
    images_per_s: float
    """Of all processes together, the median of the rounds."""
    p50_ms: float
    """Of a call of `batch` images, from asking to the answer, the wait for others included."""
    p99_ms: float
    gain: Speedup
    """Images a second over the same engine alone in one process with all cores, a call at a time,
    at batch 1, in the same rounds."""
    best: bool = False
    """Of its engine, within the limit of p99."""
    calls_ms: tuple[float, ...] = ()
    """QUANTILES of a call's own time, without the wait, while all the layout's calls are busy."""
    alone_ms: tuple[float, ...] = ()
    """The same of one call while the layout's others are idle; empty: it has but one, or it was
    measured too slow to go on."""

    @property
    def layout(self) -> Layout:
        return Layout(self.processes, self.streams, self.threads)


@dataclass(frozen=True)
class Throughput:
    """What was tried on a number of cores, in interleaved rounds."""

    cores: int
    callers: int
    """Of all processes together; each asks again once it is answered."""
    round_s: float
    """How long a layout is under load in a round, at least."""
    points: tuple[ServedPoint, ...]
    max_p99_ms: float | None = None
    """What p99 was limited to; None: to nothing."""
    left_out: dict[str, Skipped] = field(default_factory=dict)
    """What was not tried, and why."""
    other_load: float | None = None
    """The share of the machine's processor time that other processes took meanwhile, 0 to 1."""

    @property
    def best(self) -> ServedPoint | None:
        """The best of all engines; None: nothing answers within the limit."""
        found = [point for point in self.points if point.best]
        return max(found, key=lambda point: point.images_per_s, default=None)

    def best_of(self, engine: str) -> ServedPoint | None:
        """The best of an engine; None: it was not tried, or does not answer within the limit."""
        return next((p for p in self.points if p.best and p.engine == engine), None)

    def of_engines(self, ids: Iterable[str]) -> Throughput:
        """What was measured of these engines alone."""
        kept = frozenset(ids)
        return replace(self, points=tuple(p for p in self.points if p.engine in kept))


def single(cores: int) -> Layout:
    """What every gain is over: the layout of the least latency for a caller who is alone."""
    return Layout(1, 1, cores)


def layouts(cores: int) -> tuple[Layout, ...]:
    """What is tried: several processes, and one process with several streams, `single` first."""
    found = [single(cores)]
    for threads in _spread(_divisors(cores)):
        side_by_side = cores // threads
        if side_by_side > 1:
            found += [Layout(side_by_side, 1, threads), Layout(1, side_by_side, threads)]
    return tuple(found)


def _divisors(number: int) -> list[int]:
    """From the largest down."""
    return [one for one in range(number, 0, -1) if number % one == 0]


def _spread(divisors: Sequence[int]) -> list[int]:
    """At most MOST_DIVISORS of them, both ends among them, as evenly as their places allow."""
    if len(divisors) <= MOST_DIVISORS:
        return list(divisors)
    last = len(divisors) - 1
    places = [round(i * last / (MOST_DIVISORS - 1)) for i in range(MOST_DIVISORS)]
    return [divisors[place] for place in places]


def with_best(points: Sequence[ServedPoint], max_p99_ms: float | None) -> tuple[ServedPoint, ...]:
    """The points with the best of each engine marked.

    Of those within the limit whose images a second are within SAME of the most, it is the one whose
    p99 is least.
    """
    chosen = set()
    for engine in dict.fromkeys(point.engine for point in points):
        allowed = [
            point
            for point in points
            if point.engine == engine and (max_p99_ms is None or point.p99_ms <= max_p99_ms)
        ]
        if allowed:
            most = max(point.images_per_s for point in allowed)
            equal = [point for point in allowed if point.images_per_s * SAME >= most]
            chosen.add(min(equal, key=lambda point: point.p99_ms))
    return tuple(replace(point, best=point in chosen) for point in points)
