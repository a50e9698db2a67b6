"""Latency: every engine against the baseline, paired, in one interleaved run.

Absolute times drift by tens of percent on shared machines; the ratio of two times taken within the
same second does not. So a run is a number of rounds on one device; engines of another one are
another run, with a baseline there. In each round, the baseline and all engines, in a seeded random
order, do a few inferences back to back, and an engine's ratio of that round is
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
from typing import TYPE_CHECKING, Any, ClassVar, Final

from exporter.artifact import Model, Skipped, TensorSpec
from exporter.errors import BuildError, UsageError
from exporter.measure.load import LoadWatch
from exporter.measure.nvml import GpuWatch, open_gpu
from exporter.measure.process import WorkerProcess
from exporter.measure.statistics import orders, round_request
from exporter.measure.summary import Rounds, compute_time, gpu_use, latency_of
from exporter.measure.timing import Conditions, GpuUse, Latency
from exporter.progress import Progress
from exporter.runtime.errors import reason_of
from exporter.targets import MachineKind, target_class, why_not_here

if TYPE_CHECKING:
    import torch


SUSTAINED_S: Final = 1.0
"""How long an engine on a GPU runs without a pause, for its power and energy."""

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
    """Eager PyTorch, in inference mode, on the same number of threads.

    On the GPU it computes float32 without TF32, and waits for nothing but its answer.
    """

    names: ClassVar[Mapping[MachineKind, str]] = {
        MachineKind.CPU: "torch-eager",
        MachineKind.GPU: "torch-eager-cuda",
    }
    module: torch.nn.Module
    input: TensorSpec
    device: MachineKind = MachineKind.CPU
    other_inputs: tuple[TensorSpec, ...] = ()

    @property
    def name(self) -> str:
        return self.names[self.device]


@dataclass(frozen=True)
class OnnxBaseline:
    """The ONNX file that was given, in ONNX Runtime with its default options.

    Those turn all of its optimizations on; the reference of parity is the file with them off.
    """

    names: ClassVar[Mapping[MachineKind, str]] = {
        MachineKind.CPU: "onnxruntime-as-given",
        MachineKind.GPU: "onnxruntime-cuda-as-given",
    }
    model: bytes
    input: TensorSpec
    device: MachineKind = MachineKind.CPU
    other_inputs: tuple[TensorSpec, ...] = ()

    @property
    def name(self) -> str:
        return self.names[self.device]


Baseline = EagerBaseline | OnnxBaseline


def baseline_of(model: Model) -> Baseline:
    """What a model's engines are compared with: eager PyTorch, or the ONNX file as given.

    It is that on the CPU; `measure` takes the same on the GPU for what runs there.
    """
    spec = model.spec
    if model.module is not None:
        return EagerBaseline(model.module, spec.input, other_inputs=spec.other_inputs)
    if model.given is None:
        raise ValueError(f"model {spec.name} has neither a module nor a file")
    return OnnxBaseline(model.given, spec.input, other_inputs=spec.other_inputs)


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
    running: dict[MachineKind, list[EngineToMeasure]] = {}
    for engine in engines:
        absent = why_not_here(engine.target)
        on_gpu = target_class(engine.target).runs_on is MachineKind.GPU
        if absent is None and on_gpu and baseline.other_inputs:
            absent = Skipped("on a GPU, networks of one input are timed")
        if absent:
            results[engine.id] = dict.fromkeys(conditions.batches, absent)
        else:
            running.setdefault(target_class(engine.target).runs_on, []).append(engine)
    failures: dict[str, str] = {}
    for device, here in running.items():
        run = _Run(conditions, replace(baseline, device=device), progress)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exporter-")))
            try:
                run.load(here, folder, stack)
                for batch in conditions.batches:
                    for name, latency in run.measure_batch(batch).items():
                        results[name][batch] = latency
            except _BaselineFailed as error:
                reason = Skipped(f"{run.baseline.name} cannot be timed here: {error}")
                for engine in here:
                    for batch in conditions.batches:
                        results[engine.id].setdefault(batch, reason)
        failures |= run.failures
    for name, reason_text in failures.items():
        results[name] = dict.fromkeys(conditions.batches, Skipped(reason_text))
    return Measured(results, failures)


def inputs_of(first: TensorSpec, others: Sequence[TensorSpec]) -> list[tuple[str, str, Any]]:
    """(name, dtype, shape) of each of several inputs, as a worker is told; of one: nothing."""
    return [(one.name, one.dtype, one.sample) for one in (first, *others)] if others else []


class _Run:
    """The processes of one run on the baseline's device; the baseline is the first of them."""

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
            "inputs": inputs_of(given, self.baseline.other_inputs),
            "seed": conditions.seed,
            "device": self.baseline.device,
        }
        jobs = {self.baseline.name: _baseline_job(self.baseline, folder)} | {
            engine.id: {
                "kind": "engine",
                "target": engine.target,
                "path": str(engine.path),
                "cuda_graph": target_class(engine.target).cuda_graph,
            }
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
            # One after the other on a GPU, where it is told how much of its memory each takes.
            at_once = len(jobs) if self.baseline.device is MachineKind.CPU else 1
            loading = list(self._workers)
            for start in range(0, len(loading), at_once):
                some = loading[start : start + at_once]
                for worker in some:
                    with self._surviving(worker):
                        worker.send(jobs[worker.name] | common)
                for worker in some:
                    if worker.name not in self.failures:
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
        with self.progress.stage(self._title(batch), total) as advance, self._gpu_watch() as gpu:
            for worker in list(self._workers):
                with self._surviving(worker):
                    warm[worker.name] = self._warm_up(worker, batch)
                advance(1)
            racing = list(self._workers)
            watch = LoadWatch(worker.pid for worker in racing)
            samples = {worker.name: Rounds() for worker in racing}
            for order in orders(len(racing), rounds, seed):
                for worker in (racing[index] for index in order):
                    if worker.name in self.failures:
                        continue
                    with self._surviving(worker):
                        reply = worker.ask(round_request(warm[worker.name]["median_s"]))
                        samples[worker.name].add(reply)
                advance(1)
            load = watch.others()
        eager = samples[self.baseline.name]
        found: dict[str, Latency | Skipped] = {}
        for worker in self._workers[1:]:
            own, first = samples[worker.name], warm[worker.name]
            latency = latency_of(
                own,
                eager,
                batch=batch,
                warmup=first["inferences"],
                baseline=self.baseline.name,
                conditions=self.conditions,
            )
            latency = replace(latency, other_load=load)
            if gpu is not None:
                latency = self._on_gpu(latency, own, eager, first, gpu)
            found[worker.name] = latency
        return found

    def _title(self, batch: int) -> str:
        where = "" if self.baseline.device is MachineKind.CPU else " on the GPU"
        return f"measure batch {batch}{where}, {self.conditions.rounds} rounds"

    @contextmanager
    def _gpu_watch(self) -> Iterator[GpuWatch | None]:
        """What watches the GPU meanwhile; None where the run is on the CPU."""
        if self.baseline.device is MachineKind.CPU:
            yield None
            return
        baseline = self._workers[0]
        with self._surviving(baseline):
            uuid = baseline.ask({"facts": True})["gpu_uuid"]
        with GpuWatch(open_gpu(uuid)) as watch:
            yield watch

    def _warm_up(self, worker: WorkerProcess, batch: int) -> dict[str, Any]:
        """The worker's answer; on a GPU also what it takes of it when it never pauses."""
        warm = worker.ask({"warm_up": batch})
        if self.baseline.device is MachineKind.GPU:
            warm["sustained"] = worker.ask({"sustain": SUSTAINED_S})
            warm["gpu_bytes"] = worker.ask({"facts": True})["gpu_bytes"]
        return warm

    def _on_gpu(
        self, latency: Latency, own: Rounds, eager: Rounds, warm: Mapping[str, Any], gpu: GpuWatch
    ) -> Latency:
        """The latency with what the GPU alone took and what NVML told."""
        use = gpu_use(gpu, latency.batch, warm["sustained"], warm["gpu_bytes"])
        compute = compute_time(own, eager, seed=self.conditions.seed, cuda_graph=warm["cuda_graph"])
        held_down = isinstance(use, GpuUse) and bool(use.throttled)
        stable = latency.stable and not held_down
        return replace(latency, compute=compute, gpu=use, stable=stable)

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
