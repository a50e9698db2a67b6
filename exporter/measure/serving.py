"""Throughput: every layout of an engine's processes on the host's cores, in interleaved rounds.

Each process loads the bundle as a server does (`exporter.runtime.load`). In a round every layout at
every batch size is under load for a moment, in a seeded random order, while the processes of all
others are stopped; so drift hits all alike, and the gain of a layout is the median over the rounds
of its images a second over those of the single process, with a bootstrap 95 % interval.

After HEATS rounds only what may still be best goes on: the single process, and what answers at
least NEAR of the most images a second of its engine, or waits less (p99) than everything that
answers more. In the end one call of each of those layouts is alone for HEATS rounds, the others of
the layout idle: what the calls cost each other is measured, not assumed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from exporter.artifact import Skipped
from exporter.errors import BuildError
from exporter.measure.callers import Window
from exporter.measure.load import LoadWatch
from exporter.measure.process import WorkerProcess
from exporter.measure.statistics import orders, paired_speedup, percentiles_ms
from exporter.measure.throughput import (
    QUANTILES,
    Layout,
    ServedPoint,
    Throughput,
    layouts,
    single,
    with_best,
)
from exporter.progress import Progress
from exporter.runtime.machine import first_cores, usable_threads

ROUND_S: Final = 0.5
"""How long a layout is under load in a round, in seconds; or LEAST_CALLS a caller, if longer."""
LEAST_CALLS: Final = 3
MARGIN_S: Final = 0.1
"""Load before and after it that is not counted, in seconds; a call's length, if that is longer."""
HEATS: Final = 5
NEAR: Final = 0.9
FREE_MEMORY: Final = 0.1
"""The part of the machine's memory that processes leave free."""


@dataclass(frozen=True)
class Load:
    """What is measured, and under which conditions."""

    bundle: Path
    engines: tuple[str, ...]
    batches: tuple[int, ...]
    cores: int
    rounds: int
    seed: int
    max_p99_ms: float | None = None


@dataclass
class Entrant:
    """One layout of one engine at one batch size, and what was counted in each round."""

    engine: str
    layout: Layout
    batch: int
    call_s: float
    """The median of calls that are alone, in seconds."""
    s_an_image: list[list[float]] = field(default_factory=list)
    """A list of one a round."""
    waits_s: list[list[float]] = field(default_factory=list)
    calls_s: list[float] = field(default_factory=list)
    """Of all rounds: each call without its wait."""
    alone_s: list[float] = field(default_factory=list)
    """The same while the layout's other calls are idle."""

    @property
    def images_per_s(self) -> float:
        return 1 / float(np.median(self.s_an_image))

    @property
    def p99_ms(self) -> float:
        return percentiles_ms(self.waits_s)[2]


@dataclass(frozen=True)
class Raced:
    """Everything that was counted."""

    entrants: list[Entrant]
    left_out: dict[str, Skipped]
    other_load: float | None


def measure_throughput(load: Load, progress: Progress) -> Throughput:
    """Measures every layout of the engines of a bundle; one that fails costs itself alone.

    Where the single process of an engine fails there is nothing to compare with, and the engine
    has no points.
    """
    raced = race(load, progress)
    return Throughput(
        cores=load.cores,
        callers=load.cores,
        round_s=ROUND_S,
        points=with_best(points_of(raced.entrants, load), load.max_p99_ms),
        max_p99_ms=load.max_p99_ms,
        left_out=raced.left_out,
        other_load=raced.other_load,
    )


def race(load: Load, progress: Progress) -> Raced:
    """Puts every layout under load, round by round."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exporter-")))
        host = Host(load, folder, stack, progress)
        entrants = host.start()
        watch = LoadWatch(host.pids)
        heats = min(HEATS, load.rounds)
        host.race(entrants, heats, "heats")
        going_on = still_in(host.alive(entrants), load)
        host.race(going_on, load.rounds - heats, "the best again")
        host.each_alone(host.alive(going_on), heats)
        return Raced(host.alive(entrants), host.left_out, watch.others())


class Host:
    """All processes of a run; those that are not under load are stopped."""

    def __init__(self, load: Load, folder: Path, stack: ExitStack, progress: Progress) -> None:
        self.left_out: dict[str, Skipped] = {}
        self._load = load
        self._folder = folder
        self._stack = stack
        self._progress = progress
        self._workers: dict[tuple[str, Layout], list[WorkerProcess]] = {}

    @property
    def pids(self) -> list[int]:
        return [worker.pid for workers in self._workers.values() for worker in workers]

    def start(self) -> list[Entrant]:
        """Loads and warms up everything; what does not load or fit into memory is left out."""
        load = self._load
        tried = [(engine, layout) for engine in load.engines for layout in layouts(load.cores)]
        entrants = []
        with self._progress.stage("load the layouts", len(tried)) as advance:
            for engine, layout in tried:
                try:
                    entrants += self._start(engine, layout)
                except BuildError as error:
                    self._leave_out(engine, layout, error)
                advance(1)
        return entrants

    def alive(self, entrants: Sequence[Entrant]) -> list[Entrant]:
        """Those whose processes have not failed."""
        return [one for one in entrants if (one.engine, one.layout) in self._workers]

    def _leave_out(self, engine: str, layout: Layout, error: BuildError) -> None:
        for worker in self._workers.pop((engine, layout)):
            worker.end()
        self.left_out[f"{engine} {layout}"] = Skipped(str(error))

    def _start(self, engine: str, layout: Layout) -> list[Entrant]:
        workers = self._workers[engine, layout] = []
        for number in range(layout.processes):
            name = f"{engine} {layout} {number}".replace(" ", "-")
            worker = self._stack.enter_context(WorkerProcess(name, self._folder))
            workers.append(worker)
            worker.send(self._job(engine, layout))
            worker.receive()
            worker.suspend()
            if number == 0:
                self._check_memory(worker, layout.processes - 1)
        found = []
        for batch in self._load.batches:
            medians = [worker.ask({"warm_up": batch})["median_s"] for worker in workers]
            found.append(Entrant(engine, layout, batch, float(np.median(medians))))
        return found

    def _job(self, engine: str, layout: Layout) -> dict[str, Any]:
        cores = self._load.cores
        job: dict[str, Any] = {
            "kind": "bundle",
            "path": str(self._load.bundle),
            "engine": engine,
            "threads": layout.threads,
            "streams": layout.streams,
            "shared": layout.processes > 1,
            # Of the batches whose length alone is asked for: the goldens are the input.
            "shape": (),
            "dtype": "uint8",
            "seed": self._load.seed,
        }
        few = first_cores(cores) if cores < usable_threads() else None
        return job if few is None else job | {"cpus": few}

    def _check_memory(self, first: WorkerProcess, more: int) -> None:
        """Refuses as many more processes as the machine's memory does not hold.

        Raises:
            BuildError: as it says.
        """
        taken = first.ask({"facts": True})["rss_bytes"] * more
        memory = psutil.virtual_memory()
        free = memory.available - FREE_MEMORY * memory.total
        if more and taken > free:
            raise BuildError(
                f"{more} more processes take {taken / 1e9:.1f} GB, and {max(0, free) / 1e9:.1f} GB "
                "are free"
            )

    def race(self, entrants: Sequence[Entrant], rounds: int, title: str) -> None:
        """Puts everyone under load once a round."""
        self._rounds(entrants, rounds, f"throughput, {title}", self._round)

    def each_alone(self, entrants: Sequence[Entrant], rounds: int) -> None:
        """Has one caller ask those that compute several calls side by side."""
        several = [e for e in entrants if e.layout.processes * e.layout.streams > 1]
        self._rounds(several, rounds, "calls alone", self._round_alone)

    def _rounds(
        self,
        entrants: Sequence[Entrant],
        rounds: int,
        title: str,
        measure: Callable[[Entrant], None],
    ) -> None:
        if rounds < 1 or not entrants:
            return
        with self._progress.stage(f"{title}: {rounds} rounds", rounds) as advance:
            for order in orders(len(entrants), rounds, self._load.seed):
                for entrant in self.alive([entrants[index] for index in order]):
                    try:
                        measure(entrant)
                    except BuildError as error:
                        self._leave_out(entrant.engine, entrant.layout, error)
                advance(1)

    def _round(self, entrant: Entrant) -> None:
        workers = self._workers[entrant.engine, entrant.layout]
        callers = self._load.cores // len(workers)
        wait_s = entrant.call_s * callers / entrant.layout.streams
        length, replies = self._window(workers, entrant, callers, wait_s)
        calls = sum(reply["calls"] for reply in replies)
        entrant.s_an_image.append([length / (calls * entrant.batch)])
        entrant.waits_s.append([wait for reply in replies for wait in reply["waits_s"]])
        entrant.calls_s += [call for reply in replies for call in reply["calls_s"]]

    def _round_alone(self, entrant: Entrant) -> None:
        workers = self._workers[entrant.engine, entrant.layout]
        _, (reply,) = self._window(workers[:1], entrant, 1, entrant.call_s)
        entrant.alone_s += reply["calls_s"]

    def _window(
        self, workers: Sequence[WorkerProcess], entrant: Entrant, callers: int, wait_s: float
    ) -> tuple[float, list[dict[str, Any]]]:
        """The length of a window of load in seconds, and what each process counted in it."""
        margin = max(MARGIN_S, wait_s)
        begin = time.monotonic() + margin + MARGIN_S
        length = max(ROUND_S, LEAST_CALLS * wait_s)
        request = {
            "load": entrant.batch,
            "callers": callers,
            "window": asdict(Window(begin, begin + length, margin)),
        }
        return length, together(workers, request)


def together(workers: Sequence[WorkerProcess], request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Wakes the processes, has one request answered by all at once, and stops them again."""
    for worker in workers:
        worker.wake()
        worker.send(request)
    replies = [worker.receive() for worker in workers]
    for worker in workers:
        worker.suspend()
    return replies


def still_in(entrants: Sequence[Entrant], load: Load) -> list[Entrant]:
    """Who may still be best, by the module's docstring."""
    kept = []
    for entrant in entrants:
        own = [other for other in entrants if other.engine == entrant.engine]
        most = max(other.images_per_s for other in own)
        faster = [other for other in own if other.images_per_s > entrant.images_per_s]
        if (
            is_reference(entrant, load)
            or entrant.images_per_s >= NEAR * most
            or all(entrant.p99_ms < other.p99_ms for other in faster)
        ):
            kept.append(entrant)
    return kept


def is_reference(entrant: Entrant, load: Load) -> bool:
    """Whether its engine's gains are over it: `single`, at the smallest batch."""
    return entrant.layout == single(load.cores) and entrant.batch == min(load.batches)


def points_of(entrants: Sequence[Entrant], load: Load) -> list[ServedPoint]:
    """What was counted of everyone, as it goes into the manifest."""
    references = {entrant.engine: entrant for entrant in entrants if is_reference(entrant, load)}
    return [
        _point(entrant, references[entrant.engine], load)
        for entrant in entrants
        if entrant.engine in references
    ]


def _point(entrant: Entrant, reference: Entrant, load: Load) -> ServedPoint:
    rounds = len(entrant.s_an_image)
    p50, _, p99 = percentiles_ms(entrant.waits_s)
    return ServedPoint(
        engine=entrant.engine,
        **asdict(entrant.layout),
        batch=entrant.batch,
        rounds=rounds,
        images_per_s=entrant.images_per_s,
        p50_ms=p50,
        p99_ms=p99,
        gain=paired_speedup(reference.s_an_image[:rounds], entrant.s_an_image, load.seed),
        calls_ms=_quantiles_ms(entrant.calls_s),
        alone_ms=_quantiles_ms(entrant.alone_s),
    )


def _quantiles_ms(samples_s: Sequence[float]) -> tuple[float, ...]:
    """To a microsecond; of no samples none."""
    if not samples_s:
        return ()
    return tuple(round(1e3 * float(value), 3) for value in np.quantile(samples_s, QUANTILES))
