"""What processes on the same cores lose against their fair share, and what sharing costs alone.

    python -m benchmarks sharing build/resnet50

Each case is a number of processes of the same engine, each asked again as soon as it has answered.
A process's fair share is what it answers alone with as many threads, times the part of a core that
there is for each of its threads:

    fair share = images/s alone * min(1, cores / (processes * threads))

Every engine is loaded by `exporter.runtime`, as `load(...)` does by default and with `shared=True`;
a session of one thread has no idle threads, so there both are the same. In the case "beside an idle
one" a process of one thread computes while another, with all threads, is asked every PAUSE_S: the
share is that of the busy one. All cases are interleaved in rounds, in a seeded random order.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.options import RESULTS, BuildFolder, Cores, Out, Rounds, Seed, show_progress
from benchmarks.record import Event, Recorder, described
from benchmarks.settings import Settings, free_path, header, settings_of
from benchmarks.throughput import served
from exporter.commands.throughput import packed
from exporter.measure.callers import Window
from exporter.measure.clock import Place
from exporter.measure.load import LoadWatch
from exporter.measure.process import WorkerProcess
from exporter.measure.serving import MARGIN_S, together
from exporter.measure.statistics import orders, paired_speedup
from exporter.measure.worker import load_bundle
from exporter.progress import Progress
from exporter.runtime.machine import first_cores

KIND: Final = "sharing"
PAUSE_S: Final = 0.02
WINDOW_S: Final = 0.6


@dataclass(frozen=True)
class Case:
    """What computes at once."""

    processes: int
    threads: int
    shared: bool
    idle_threads: int = 0
    """Of a process beside them that is asked now and then; 0: there is none."""

    @property
    def name(self) -> str:
        shape = f"{self.processes} x {self.threads}{', shared' if self.shared else ''}"
        return f"{shape}, beside an idle one of {self.idle_threads}" if self.idle_threads else shape


def command(
    build: BuildFolder, rounds: Rounds = 30, cores: Cores = None, seed: Seed = 0, out: Out = RESULTS
) -> Path:
    """What two and four processes at once lose against their fair share of the cores.

    Example: python -m benchmarks sharing build/resnet50
    """
    settings = settings_of(cores, seed)
    raw = free_path(out, KIND, settings)
    measure(build, rounds, settings, raw, show_progress())
    return raw


def cases(cores: int) -> tuple[Case, ...]:
    """What is measured on a number of cores; those that are alone come first."""
    alone = [Case(1, 1, False), *(Case(1, cores, shared) for shared in (False, True))]
    beside = [
        Case(count, threads, shared)
        for count in (2, 4)
        for threads in (1, cores)
        for shared in (False, True)
        if threads > 1 or not shared
    ]
    idle = [Case(1, 1, shared, idle_threads=cores) for shared in (False, True)]
    return tuple(dict.fromkeys([*alone, *beside, *idle]))


def load_paused(job: Mapping[str, Any]) -> Place:
    """A bundle's engine that rests for PAUSE_S after each answer."""
    place = load_bundle(job)

    def paused(batch: Any) -> Any:
        run = place(batch)

        def run_and_rest() -> None:
            run()
            time.sleep(PAUSE_S)

        return run_and_rest

    return paused


def measure(build: Path, rounds: int, settings: Settings, raw: Path, progress: Progress) -> None:
    """Measures a build's fastest engine of each runtime library into the raw file.

    Raises:
        InputError: no build there, or one of which nothing was measured that runs here.
    """
    manifest, engines = served(build)
    model, cores = manifest.model.name, settings.threads
    todo = [(engine, case) for engine in engines for case in cases(cores)]
    with (
        packed(build, engines, progress) as bundle,
        Recorder(raw, header(KIND, rounds, 1, settings)) as recorder,
        ExitStack() as stack,
    ):
        recorder.write("group", group=model, model=model, cores=cores, seed=settings.seed)
        crowd = _Crowd(bundle, settings, stack)
        with progress.stage("load the processes", len(todo)) as advance:
            for engine, case in todo:
                crowd.of(engine, case)
                advance(1)
        watch = LoadWatch(crowd.pids)
        with progress.stage(f"{model}: {rounds} rounds", rounds) as advance:
            for number, order in enumerate(orders(len(todo), rounds, settings.seed)):
                for engine, case in (todo[index] for index in order):
                    rates = crowd.rates(engine, case)
                    recorder.write(
                        "shares", group=model, engine=engine, round=number, **asdict(case),
                        images_per_s=rates,
                    )  # fmt: skip
                advance(1)
        recorder.write("footer", group=model, others=watch.others() or 0.0)


class _Crowd:
    """The processes of all cases; a case takes the first of those that are as it asks for."""

    def __init__(self, bundle: Path, settings: Settings, stack: ExitStack) -> None:
        self._bundle = bundle
        self._settings = settings
        self._stack = stack
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        self._workers: dict[tuple[str, int, bool, bool], list[WorkerProcess]] = {}

    @property
    def pids(self) -> list[int]:
        return [worker.pid for workers in self._workers.values() for worker in workers]

    def of(self, engine: str, case: Case) -> list[WorkerProcess]:
        """Those that compute without a pause first."""
        shared = case.shared and case.threads > 1
        found = self._some(engine, case.threads, shared, False, case.processes)
        if case.idle_threads:
            found += self._some(engine, case.idle_threads, case.shared, True, 1)
        return found

    def rates(self, engine: str, case: Case) -> list[float]:
        """Images a second of each process that computes without a pause, all at once."""
        begin = time.monotonic() + 2 * MARGIN_S
        window = Window(begin, begin + WINDOW_S, MARGIN_S)
        request = {"load": 1, "callers": 1, "window": asdict(window)}
        replies = together(self.of(engine, case), request)
        return [reply["calls"] / WINDOW_S for reply in replies[: case.processes]]

    def _some(
        self, engine: str, threads: int, shared: bool, paused: bool, count: int
    ) -> list[WorkerProcess]:
        workers = self._workers.setdefault((engine, threads, shared, paused), [])
        while len(workers) < count:
            workers.append(self._start(engine, threads, shared, paused))
        return workers[:count]

    def _start(self, engine: str, threads: int, shared: bool, paused: bool) -> WorkerProcess:
        name = f"process-{sum(map(len, self._workers.values()))}"
        worker = self._stack.enter_context(WorkerProcess(name, self._folder, own_modules=paused))
        job = {
            "kind": "benchmarks.sharing:load_paused" if paused else "bundle",
            "path": str(self._bundle), "engine": engine, "threads": threads, "streams": 1,
            "shared": shared, "shape": (), "dtype": "uint8", "seed": self._settings.seed,
        }  # fmt: skip
        cpus = first_cores(self._settings.threads)
        worker.send(job if cpus is None else job | {"cpus": cpus})
        worker.receive()
        worker.suspend()
        worker.ask({"warm_up": 1})
        return worker


def analyse(events: Sequence[Event]) -> dict[str, Any]:
    """For each case the images a second, and the part of the fair share that they are."""
    head = events[0]
    (group,) = (event for event in events if event["event"] == "group")
    (footer,) = (event for event in events if event["event"] == "footer")
    rounds: dict[tuple[str, Case], list[list[float]]] = {}
    for event in events:
        if event["event"] == "shares":
            case = Case(
                event["processes"], event["threads"], event["shared"], event["idle_threads"]
            )
            rounds.setdefault((event["engine"], case), []).append(event["images_per_s"])
    rows = [
        _row(engine, case, found, rounds[engine, Case(1, case.threads, False)], group)
        for (engine, case), found in rounds.items()
    ]
    return {
        "kind": KIND,
        **described(head),
        "model": group["model"],
        "cores": group["cores"],
        "others": footer["others"],
        "missing": [],
        "cases": sorted(rows, key=lambda row: (row["engine"], row["processes"], row["threads"])),
    }


def _row(
    engine: str, case: Case, found: list[list[float]], alone: list[list[float]], group: Event
) -> dict[str, Any]:
    part = case.processes * min(1.0, group["cores"] / (case.processes * case.threads))
    fair = [rates[0] * part for rates in alone]
    share = paired_speedup(
        [[1 / rate] for rate in fair], [[1 / sum(rates)] for rates in found], group["seed"]
    )
    least = float(np.median(np.array(found), axis=0).min())
    return {
        "engine": engine,
        "case": case.name,
        **asdict(case),
        "images_per_s": float(np.median([sum(rates) for rates in found])),
        "share": share.median,
        "share_ci95": list(share.ci95),
        # Of the process that got least, over all rounds.
        "least_share": least * case.processes / float(np.median(fair)),
    }
