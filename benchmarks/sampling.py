"""One interleaved run of many engines, each in a process of its own, written down as it happens.

In each round every engine does a few inferences back to back, in a seeded random order that later
comes reversed; all but the one at work are stopped. Processes are started one after the other, so
that the time to load is not that of a crowd, and are started anew `lives` times: where a process's
memory lies on the machine moves its speed by a percent or so, and only a new process draws that
again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from benchmarks import machine
from benchmarks.record import Recorder
from benchmarks.suite import Role
from exporter.artifact import Skipped
from exporter.errors import BuildError
from exporter.measure.process import WorkerProcess
from exporter.measure.statistics import orders, round_request
from exporter.progress import Progress
from exporter.runtime.machine import first_cores
from exporter.targets import Array, MachineKind

AGREE_SAMPLES: Final = 4
"""Images on which every engine's answer is compared with the baseline's."""


@dataclass(frozen=True)
class Contender:
    """Somebody to measure: the job that a worker is given, and facts for the record."""

    name: str
    role: Role
    precision: str
    job: Mapping[str, Any] | Skipped
    """Skipped: it cannot be measured here, and why."""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Conditions:
    """What is the same for every contender of a group."""

    threads: int
    rounds: int
    seed: int
    lives: int = 1
    device: MachineKind = MachineKind.CPU

    def meter(self) -> machine.Rapl | Skipped:
        """What tells the energy of an inference: the CPU's counters, which know of no GPU."""
        if self.device is MachineKind.GPU:
            return Skipped("RAPL counts a CPU's energy, and these engines run on a GPU")
        return machine.find_meter()

    def job(self) -> dict[str, Any]:
        """The part of each worker's job that says so."""
        cpus = first_cores(self.threads)
        common: dict[str, Any] = {
            "threads": self.threads, "seed": self.seed, "device": self.device,
        }  # fmt: skip
        return common if cpus is None else common | {"cpus": cpus}


def sample(
    group: str,
    contenders: Sequence[Contender],
    batches: Sequence[int],
    conditions: Conditions,
    recorder: Recorder,
    progress: Progress,
    *,
    inputs: Array | None = None,
) -> None:
    """Measures everyone at every batch size into `recorder`, as groups "GROUP bN".

    With `inputs`, (AGREE_SAMPLES, ...), everyone's answer is compared with that of the first.
    """
    meter = conditions.meter()
    watch = machine.Watch()
    rounds = _shares(conditions.rounds, conditions.lives)
    names = [f"{group} b{batch}" for batch in batches]
    begin = 0
    for life, count in enumerate(rounds):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
            started = _start(contenders, conditions, folder, stack, names, life, recorder, progress)
            contenders = [one.contender for one in started]
            for name, batch in zip(names, batches, strict=True):
                span = range(begin, begin + count)
                _rounds(name, batch, started, span, life, conditions, meter, recorder, progress)
            if life == 0 and inputs is not None:
                _compare_answers(started, inputs, batches[0], folder, names, recorder)
            for one in started:
                watch.ended(psutil.Process(one.worker.pid))
        begin += count
    for name in names:
        recorder.write("footer", group=name, others=round(watch.others(), 4), **machine.snapshot())


def balanced_orders(workers: int, rounds: int, seed: int) -> list[list[int]]:
    """A seeded order for each round; the second half of them are the first half's reversed.

    So everyone comes equally late on average, and as often before each other one as after it: what
    an engine leaves behind (caches, clock) reaches all alike, whatever the seed.
    """
    drawn = orders(workers, (rounds + 1) // 2, seed)
    return drawn + [order[::-1] for order in drawn[: rounds // 2]]


def _shares(rounds: int, lives: int) -> list[int]:
    """`rounds` in `lives` nearly equal parts."""
    return [rounds // lives + (life < rounds % lives) for life in range(lives)]


@dataclass(frozen=True)
class _Started:
    contender: Contender
    worker: WorkerProcess
    loaded: Mapping[str, Any]


def _start(
    contenders: Sequence[Contender],
    conditions: Conditions,
    folder: Path,
    stack: ExitStack,
    groups: Sequence[str],
    life: int,
    recorder: Recorder,
    progress: Progress,
) -> list[_Started]:
    started = []
    with progress.stage(f"load {len(contenders)} engines", len(contenders)) as advance:
        for index, contender in enumerate(contenders):
            try:
                if isinstance(contender.job, Skipped):
                    raise BuildError(contender.job.skipped)
                # Named by number: a name may hold a slash.
                process = WorkerProcess(f"engine-{index}", folder, own_modules=True)
                worker = stack.enter_context(process)
                worker.send(dict(contender.job) | conditions.job())
                worker.receive()
                loaded = worker.ask({"facts": True})
            except BuildError as error:
                if life > 0:
                    raise
                _write_missing(contender, groups, str(error), recorder)
                continue
            started.append(_Started(contender, worker, loaded))
            advance(1)
    return started


def _write_missing(
    contender: Contender, groups: Sequence[str], why: str, recorder: Recorder
) -> None:
    for group in groups:
        recorder.write(
            "missing",
            group=group,
            name=contender.name,
            role=contender.role,
            precision=contender.precision,
            why=why,
            # What can be built and not be loaded is broken; what has no place here is not.
            broken=contender.facts.get("broken", False) or not isinstance(contender.job, Skipped),
        )


def _compare_answers(
    started: Sequence[_Started],
    inputs: Array,
    batch: int,
    folder: Path,
    groups: Sequence[str],
    recorder: Recorder,
) -> None:
    """Writes each engine's relative error against the baseline: they must be the same network."""
    given, answered = folder / "inputs.npy", folder / "answers.npy"
    reference: Array | None = None
    for one in started:
        answers = []
        for start in range(0, len(inputs), batch):
            # At a size that it was warmed up for: some engines compile anew for another.
            np.save(given, np.resize(inputs[start : start + batch], (batch, *inputs.shape[1:])))
            one.worker.ask({"inputs": str(given), "outputs": str(answered)})
            answers.append(np.load(answered).astype(np.float64))
        answer = np.concatenate(answers)
        reference = answer if reference is None else reference
        error = np.linalg.norm(answer - reference) / np.linalg.norm(reference)
        for group in groups:
            recorder.write("answer", group=group, name=one.contender.name, rel_l2=float(error))


def _rounds(
    group: str,
    batch: int,
    started: Sequence[_Started],
    rounds: range,
    life: int,
    conditions: Conditions,
    meter: machine.Rapl | Skipped,
    recorder: Recorder,
    progress: Progress,
) -> None:
    steps = len(started) + len(rounds)
    with progress.stage(f"{group}: {len(rounds)} rounds", steps) as advance:
        requests = []
        for one in started:
            warm = one.worker.ask({"warm_up": batch})
            requests.append(round_request(warm["median_s"]))
            recorder.write(
                "engine",
                group=group,
                name=one.contender.name,
                role=one.contender.role,
                precision=one.contender.precision,
                life=life,
                load_s=one.loaded["load_s"],
                first_s=warm["first_s"],
                warmup=warm["inferences"],
                peak_rss_bytes=one.worker.ask({"facts": True}).get("peak_rss_bytes"),
                **one.contender.facts,
            )
            advance(1)
        draw = balanced_orders(len(started), conditions.rounds, conditions.seed)
        for number in rounds:
            for place, index in enumerate(draw[number]):
                one, request = started[index], requests[index]
                before = None if isinstance(meter, Skipped) else meter.read_j()
                reply = one.worker.ask(request)
                spent = None
                if before is not None and not isinstance(meter, Skipped):
                    spent = meter.read_j() - before
                recorder.write(
                    "round",
                    group=group,
                    name=one.contender.name,
                    life=life,
                    round=number,
                    place=place,
                    samples_s=reply["samples_s"],
                    # On the GPU alone; empty where the engine is on the CPU.
                    compute_s=reply["compute_s"],
                    inferences=request["time"] + request["discard"],
                    # The counter starts again from zero now and then.
                    energy_j=spent if spent is not None and spent > 0 else None,
                )
            advance(1)
