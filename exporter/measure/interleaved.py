"""Latency: every engine against the baseline, paired, in one interleaved run.

Absolute times drift by tens of percent on shared machines; the ratio of two times taken within the
same second does not. So a run is a number of rounds. In each, the baseline and all engines, in a
seeded random order, do a few inferences back to back, and an engine's ratio of that round is
median(baseline) / median(engine). The speedup is the median of the ratios over the rounds, with a
bootstrap 95 % interval.

Each engine lives in a process of its own, and all but the one at work are stopped (SIGSTOP where
the platform has it): the spinning thread pool of an idle one slows its neighbour by up to half.
The first inferences after being woken refill the caches and are discarded.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from exporter.artifact import Model, Skipped, TensorSpec
from exporter.errors import BuildError, UsageError, reason_of
from exporter.measure.load import LoadWatch
from exporter.measure.process import WorkerProcess
from exporter.measure.statistics import (
    is_stable,
    orders,
    paired_speedup,
    percentiles_ms,
    round_request,
)
from exporter.measure.timing import Conditions, Latency
from exporter.progress import Progress
from exporter.targets import why_not_here

if TYPE_CHECKING:
    import torch


Results = dict[str, dict[int, Latency | Skipped]]
"""Engine id -> batch size -> latency, or why there is none."""


@dataclass(frozen=True)
class EngineToMeasure:
    """A built engine."""

    id: str
    target: str
    """As typed: "ort-cpu"."""
    path: Path


@dataclass(frozen=True)
class EagerBaseline:
    """Eager PyTorch, in inference mode, on the same number of threads."""

    name: ClassVar[str] = "torch-eager"
    words: ClassVar[str] = "eager PyTorch"
    module: torch.nn.Module
    input: TensorSpec


@dataclass(frozen=True)
class OnnxBaseline:
    """The ONNX file that was given, in ONNX Runtime with its default options.

    Those turn all of its optimizations on; the reference of parity is the file with them off.
    """

    name: ClassVar[str] = "onnxruntime-as-given"
    words: ClassVar[str] = "the given file in ONNX Runtime, all optimizations on"
    model: bytes
    input: TensorSpec


Baseline = EagerBaseline | OnnxBaseline


def baseline_of(model: Model) -> Baseline:
    """What a model's engines are compared with: eager PyTorch, or the ONNX file as given."""
    if model.module is not None:
        return EagerBaseline(model.module, model.spec.input)
    if model.given is None:
        raise ValueError(f"model {model.spec.name} has neither a module nor a file")
    return OnnxBaseline(model.given, model.spec.input)


@dataclass(frozen=True)
class Measured:
    """What a run found."""

    latencies: Results
    failures: Mapping[str, str]
    """Engine id -> how its process failed or died; all others were measured to the end."""


def measure(
    engines: Sequence[EngineToMeasure],
    baseline: Baseline,
    conditions: Conditions,
    progress: Progress,
) -> Measured:
    """Measures the engines that run here, at every batch size.

    An engine whose process fails costs itself alone. Where the baseline's does, nothing has a
    latency, and each says why.

    Raises:
        UsageError: no batch size, or a count below one.
    """
    counts = (*conditions.batches, conditions.threads, conditions.rounds)
    if not conditions.batches or min(counts) < 1:
        raise UsageError("batch sizes, threads and rounds must be 1 or more, and one batch given")
    results: Results = {engine.id: {} for engine in engines}
    running = []
    for engine in engines:
        absent = why_not_here(engine.target)
        if absent:
            results[engine.id] = dict.fromkeys(conditions.batches, absent)
        else:
            running.append(engine)
    failures: dict[str, str] = {}
    if running:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exporter-")))
            try:
                run = _Run(conditions, baseline, progress)
                run.load(running, folder, stack)
                for batch in conditions.batches:
                    for name, latency in run.measure_batch(batch).items():
                        results[name][batch] = latency
            except _BaselineFailed as error:
                reason = Skipped(f"{baseline.name} cannot be timed here: {error}")
                for engine in running:
                    for batch in conditions.batches:
                        results[engine.id].setdefault(batch, reason)
            failures = run.failures
    for name, reason_text in failures.items():
        results[name] = dict.fromkeys(conditions.batches, Skipped(reason_text))
    return Measured(results, failures)


class _Run:
    """The processes of one run; the baseline is the first of them."""

    def __init__(self, conditions: Conditions, baseline: Baseline, progress: Progress) -> None:
        self.conditions = conditions
        self.baseline = baseline
        self.progress = progress
        self.failures: dict[str, str] = {}
        self._workers: list[WorkerProcess] = []

    def load(self, engines: Sequence[EngineToMeasure], folder: Path, stack: ExitStack) -> None:
        """Starts a process each and loads what it times.

        Raises:
            _BaselineFailed: the baseline's cannot be sent to its process, or does not load there.
        """
        given, conditions = self.baseline.input, self.conditions
        common = {
            "threads": conditions.threads,
            "shape": given.shape[1:],
            "dtype": given.dtype,
            "seed": conditions.seed,
        }
        jobs = {self.baseline.name: _baseline_job(self.baseline, folder)} | {
            engine.id: {"kind": "engine", "target": engine.target, "path": str(engine.path)}
            for engine in engines
        }
        with self.progress.stage("load what is to be measured", len(jobs)) as advance:
            self._workers = [
                # Its class may be defined in a module of the user's.
                stack.enter_context(
                    WorkerProcess(name, folder, own_modules=name == self.baseline.name)
                )
                for name in jobs
            ]
            for worker in list(self._workers):
                with self._surviving(worker):
                    worker.send(jobs[worker.name] | common)
            for worker in list(self._workers):
                with self._surviving(worker):
                    worker.receive()
                    worker.suspend()
                advance(1)

    def measure_batch(self, batch: int) -> dict[str, Latency | Skipped]:
        """One interleaved run over all processes that are left.

        Raises:
            _BaselineFailed: the baseline's process failed or died.
        """
        names = [worker.name for worker in self._workers[1:]]
        fixed = self.baseline.input.shape[0]
        if isinstance(fixed, int) and batch != fixed:
            return dict.fromkeys(names, Skipped(f"the model takes batches of {fixed} only"))
        rounds, seed = self.conditions.rounds, self.conditions.seed
        total = len(self._workers) + rounds
        warm: dict[str, dict[str, Any]] = {}
        with self.progress.stage(f"measure batch {batch}, {rounds} rounds", total) as advance:
            for worker in list(self._workers):
                with self._surviving(worker):
                    warm[worker.name] = worker.ask({"warm_up": batch})
                advance(1)
            racing = list(self._workers)
            watch = LoadWatch(worker.pid for worker in racing)
            samples: dict[str, list[list[float]]] = {worker.name: [] for worker in racing}
            for order in orders(len(racing), rounds, seed):
                for worker in (racing[index] for index in order):
                    if worker.name in self.failures:
                        continue
                    with self._surviving(worker):
                        reply = worker.ask(round_request(warm[worker.name]["median_s"]))
                        samples[worker.name].append(reply["samples_s"])
                advance(1)
            load = watch.others()
        eager = samples[self.baseline.name]
        return {
            worker.name: replace(
                self._latency(batch, warm[worker.name], samples[worker.name], eager),
                other_load=load,
            )
            for worker in self._workers[1:]
        }

    def _latency(
        self,
        batch: int,
        warm: Mapping[str, Any],
        own: Sequence[Sequence[float]],
        eager: Sequence[Sequence[float]],
    ) -> Latency:
        speedup = paired_speedup(eager, own, self.conditions.seed)
        p50, p90, p99 = percentiles_ms(own)
        eager_p50, eager_p90, _ = percentiles_ms(eager)
        return Latency(
            batch=batch,
            threads=self.conditions.threads,
            warmup=warm["inferences"],
            rounds=self.conditions.rounds,
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            eager_p50_ms=eager_p50,
            baseline=self.baseline.name,
            speedup=speedup,
            stable=is_stable(speedup, p90 / p50, eager_p90 / eager_p50),
            eager_p90_ms=eager_p90,
        )

    @contextmanager
    def _surviving(self, worker: WorkerProcess) -> Iterator[None]:
        """Takes a process that fails out of the run, with its reason."""
        try:
            yield
        except BuildError as error:
            if worker is self._workers[0] and worker.name == self.baseline.name:
                raise _BaselineFailed(str(error)) from None
            self.failures[worker.name] = str(error)
            self._workers.remove(worker)


def _baseline_job(baseline: Baseline, folder: Path) -> dict[str, Any]:
    try:
        if isinstance(baseline, OnnxBaseline):
            path = folder / "baseline.onnx"
            path.write_bytes(baseline.model)
            return {"kind": "onnx", "path": str(path)}
        import cloudpickle
        import torch

        path = folder / "baseline.pt"
        # By value, where a class is one of a script, a notebook or a function: pickle's own way is
        # its name, which says nothing to another process.
        torch.save(baseline.module, path, cloudpickle, cloudpickle.DEFAULT_PROTOCOL)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        reason = reason_of(error)
        raise _BaselineFailed(
            f"its module cannot be sent to a process of its own: {reason}"
        ) from None
    except (OSError, RuntimeError) as error:  # PyTorch's of a full disk is a RuntimeError
        reason = reason_of(error)
        raise _BaselineFailed(f"it cannot be written to {folder}: {reason}") from None
    return {"kind": "module", "path": str(path)}


class _BaselineFailed(Exception):  # noqa: N818 - becomes Skipped
    """The baseline cannot be timed: then there is nothing to divide by."""
