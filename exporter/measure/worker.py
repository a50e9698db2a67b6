"""One engine, or the baseline, in a process of its own: the child's side of `interleaved.py`.

The parent writes one JSON object a line to stdin, the child answers with one a line:

    the job      {"kind", "path", "target", "threads", "shape", "dtype", "seed"} -> {"ready": true}
    a warm-up    {"warm_up": batch}            -> {"inferences", "median_s", "first_s",
                                                   "cuda_graph"}
    a round      {"time": count, "discard": n} -> {"samples_s": [...], "compute_s": [...]}
    a long run   {"sustain": seconds}          -> {"inferences", "seconds", "energy_j"}
    load         {"load": batch, "window": Window, "callers": n} -> {"calls", "waits_s",
                                                   "calls_s"}
    an answer    {"inputs": npy, "outputs": npy} -> {"answered": true}: the first output, as a file
    facts        {"facts": true}               -> {"load_s", "rss_bytes", "peak_rss_bytes",
                                                   "gpu_bytes", "gpu_uuid"}
    any failure                                -> {"error": one line, "unloadable": bool}

The job of a network of several inputs has `inputs`, a [name, dtype, shape] each. `kind` is a name
in LOADERS, or `module:function` of a function like those in it; a job may name the
`cpus` that the process is to stay on. With `"device": "gpu"` everything is timed by the GPU's clock
(`cuda_clock.py`), and `"cuda_graph": true` says that an inference can be captured; else it is the
CPU's, and "compute_s" is empty. "energy_j" and "gpu_bytes" are null where NVML does not tell.

stdin's end is the end of the process. Whatever a library prints goes to stderr, which the parent
keeps in a file.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import numpy as np
import psutil

from exporter import runtime as serving
from exporter.artifact import Skipped
from exporter.errors import BuildError
from exporter.measure.callers import Window, under_load
from exporter.measure.clock import Clock, Place, Run, Timed, WallClock, sample_s, warm_up
from exporter.measure.nvml import Gpu, open_gpu
from exporter.runtime.description import GOLDEN
from exporter.runtime.errors import reason_of
from exporter.runtime.goldens import goldens_in
from exporter.runtime.inputs import by_name, joined
from exporter.targets import Array, MachineKind, RunsOnDevice, get_target

if TYPE_CHECKING:
    import torch

Loader = Callable[[Mapping[str, Any]], Place]
"""Loads what a job names; the result puts an input in place."""

_PR_SET_PDEATHSIG: Final = 1
"""prctl(2)."""


class Unloadable(Exception):  # noqa: N818 - the parent turns it into a skipped measurement
    """The module that was sent cannot be made again in this process."""


def main() -> None:
    """Serves one job until stdin ends."""
    die_with_parent()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, replies)


def die_with_parent() -> None:
    """Has Linux kill this process when the one that started it dies, even while it is stopped.

    Elsewhere the end of stdin ends it, unless it was stopped at that moment.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answers each line of `requests` with a line on `replies`; a failure ends it."""
    worker: Worker | None = None
    for line in requests:
        request = json.loads(line)
        try:
            if worker is None:
                worker = Worker(request)
                reply: dict[str, Any] = {"ready": True}
            else:
                reply = worker.answer(request)
        except Exception as error:  # whatever it is, the parent must learn of it
            reason = reason_of(error)
            reply = {"error": reason, "unloadable": isinstance(error, Unloadable)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
        if "error" in reply:
            return


class Worker:
    """A loaded engine or baseline, and the input that it is timed on."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        if "cpus" in job and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, job["cpus"])
        self._gpu = open_gpu(gpu_uuid()) if on_gpu(job) else Skipped("not on a GPU")
        self._gpu_bytes = used_bytes(self._gpu)
        self._clock = clock_for(job)
        start = time.perf_counter()
        self._place = find_loader(job["kind"])(job)
        self._load_s = time.perf_counter() - start
        self._job = job
        self._timed: Timed | None = None
        self._placed: dict[int, Timed] = {}
        """By batch size."""

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if "warm_up" in request:
            batch = make_batch(request["warm_up"], self._job)
            self._timed = self._clock.place(self._place, batch)
            self._placed[request["warm_up"]] = self._timed
            first = sample_s(self._timed.run, 1)
            warm = asdict(warm_up(self._timed)) | {"first_s": first[0]}
            return warm | {"cuda_graph": bool(self._job.get("cuda_graph")) or _replays(self._place)}
        if "inputs" in request:
            timed = self._clock.place(self._place, np.load(request["inputs"]))
            np.save(request["outputs"], np.asarray(first_output(timed.run())))
            return {"answered": True}
        if "facts" in request:
            return {"load_s": self._load_s, **resident_bytes(), **self._gpu_facts()}
        if self._timed is None:
            raise ValueError("a round was asked for before the warm-up")
        if "load" in request:
            return self._under_load(request)
        if "sustain" in request:
            return self._sustain(self._timed, request["sustain"])
        self._timed.time(request["discard"])
        times = self._timed.time(request["time"])
        return {"samples_s": list(times.end_to_end_s), "compute_s": list(times.compute_s)}

    def _sustain(self, timed: Timed, seconds: float) -> dict[str, Any]:
        before = None if isinstance(self._gpu, Skipped) else self._gpu.energy_j()
        start = time.perf_counter()
        inferences = timed.sustain(seconds)
        took = time.perf_counter() - start
        after = None if isinstance(self._gpu, Skipped) else self._gpu.energy_j()
        spent = None if before is None or after is None else after - before
        return {"inferences": inferences, "seconds": took, "energy_j": spent}

    def _under_load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return asdict(
            under_load(
                self._placed[request["load"]].run,
                callers=request["callers"],
                streams=self._job["streams"],
                window=Window(**request["window"]),
            )
        )

    def _gpu_facts(self) -> dict[str, Any]:
        now, before = used_bytes(self._gpu), self._gpu_bytes
        own = None if now is None or before is None else max(0, now - before)
        return {"gpu_bytes": own, "gpu_uuid": gpu_uuid() if on_gpu(self._job) else None}


def on_gpu(job: Mapping[str, Any]) -> bool:
    """Whether a job is to be run and timed on the GPU."""
    return bool(job.get("device", MachineKind.CPU) == MachineKind.GPU)


def clock_for(job: Mapping[str, Any]) -> Clock:
    """The clock of the device that a job is for."""
    if not on_gpu(job):
        return WallClock()
    from exporter.measure.cuda_clock import CudaClock

    return CudaClock(cuda_graph=bool(job.get("cuda_graph")))


def _replays(place: Place) -> bool:
    """Whether what is placed belongs to a session whose runtime captures CUDA graphs itself."""
    session = getattr(place, "__self__", None)
    return bool(getattr(session, "replays_cuda_graphs", False))


def gpu_uuid() -> str:
    """That of the GPU on which PyTorch computes, without "GPU-".

    Raises:
        MissingDependencyError: this process's PyTorch reaches no GPU.
    """
    import torch

    from exporter.measure.cuda_clock import require_cuda

    require_cuda()
    return str(torch.cuda.get_device_properties(0).uuid)


def used_bytes(gpu: Gpu | Skipped) -> int | None:
    """The GPU's memory that all processes use now."""
    return None if isinstance(gpu, Skipped) else gpu.memory_used_bytes()


def make_batch(count: int, job: Mapping[str, Any]) -> Array:
    """(count, ...) of a job's input, or as many records of its `inputs`; seeded."""
    seed = job["seed"]
    if not job.get("inputs"):
        return make_input((count, *job["shape"]), job["dtype"], seed)
    return joined(
        {
            name: make_input((count, *shape), kind, seed + number)
            for number, (name, kind, shape) in enumerate(job["inputs"])
        }
    )


def make_input(shape: tuple[int, ...], dtype: str, seed: int) -> Array:
    """A seeded (N, ...) input: standard normal, or all byte values alike for an integer type."""
    generator = np.random.default_rng(seed)
    if np.issubdtype(np.dtype(dtype), np.integer):
        return generator.integers(0, 256, size=shape).astype(dtype)
    return generator.standard_normal(size=shape, dtype=np.float32).astype(dtype)


def first_output(answer: Any) -> Any:
    """What an inference answered; a runtime or module with several outputs lists this one first."""
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    return answer[0] if isinstance(answer, list | tuple) else answer


def resident_bytes() -> dict[str, int]:
    """Resident memory now and at most so far; the latter only where Linux tells."""
    found = {"rss_bytes": int(psutil.Process().memory_info().rss)}
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        found["peak_rss_bytes"] = int(line.split()[1]) * 1024
    return found


def find_loader(kind: str) -> Loader:
    """A loader of LOADERS, or the `module:function` that `kind` names."""
    if kind in LOADERS:
        return LOADERS[kind]
    module, _, function = kind.partition(":")
    loader: Loader = getattr(importlib.import_module(module), function)
    return loader


def load_engine(job: Mapping[str, Any]) -> Place:
    """An engine, opened by its target with everything that it requires set.

    Raises:
        BuildError: it does not load, or its session cannot be given tensors on the GPU.
    """
    session = get_target(job["target"]).open(Path(job["path"]), job["threads"])
    if job.get("inputs"):  # taken apart once, and not in what is timed
        return lambda batch: partial(session.run_named, by_name(batch, ""))
    if not on_gpu(job):
        return lambda batch: lambda: session.run_all(batch)
    if not isinstance(session, RunsOnDevice):
        raise BuildError(f"engines of {job['target']} cannot be timed on the GPU")
    return session.bind


def load_bundle(job: Mapping[str, Any]) -> Place:
    """An engine of a bundle, as what serves loads it; it is asked the goldens, over and over.

    Raises:
        ServingError: it does not prove itself here.
    """
    engine = serving.load(
        job["path"],
        engine=job["engine"],
        threads=job["threads"],
        streams=job["streams"],
        shared=job["shared"],
    )
    goldens = goldens_in(Path(job["path"]) / GOLDEN)
    inputs = by_name(goldens.inputs, next(iter(engine.inputs)))

    def place(batch: Array) -> Run:
        given = {name: np.resize(one, (len(batch), *one.shape[1:])) for name, one in inputs.items()}
        return lambda: engine.run(given)

    return place


def load_module(job: Mapping[str, Any]) -> Place:
    """An eager PyTorch module, in inference mode; on the GPU in float32 without TF32.

    Raises:
        Unloadable: its class cannot be imported here.
    """
    import torch

    torch.set_num_threads(job["threads"])
    torch.set_num_interop_threads(1)
    try:
        # The parent has just written this file: nothing foreign is unpickled.
        module = torch.load(job["path"], weights_only=False)
    except (AttributeError, ImportError) as error:
        raise Unloadable(str(error)) from None
    if on_gpu(job):
        module = module.to("cuda")
    if job.get("inputs"):
        from exporter.models.inputs import tensors_of

        return lambda batch: eager_run(module, *tensors_of(batch))
    return lambda batch: eager_run(module, torch.as_tensor(batch))


def eager_run(module: torch.nn.Module, *given: torch.Tensor) -> Run:
    """One answer of the module to its inputs, which stay as they are and may be filled anew."""
    import torch

    before = [one.clone() for one in given]
    with torch.inference_mode():
        module(*before)
    # A forward that changes its input would soon compute with infinities or denormal numbers.
    keeps_its_input = all(map(torch.equal, before, given))

    def run() -> object:
        with torch.inference_mode():
            fresh = given if keeps_its_input else [one.clone() for one in given]
            return first_output(module(*fresh))

    return run


def load_onnx(job: Mapping[str, Any]) -> Place:
    """An ONNX file as ONNX Runtime takes it by default, apart from the number of threads.

    On the GPU its CUDA provider runs what it can; TF32 is off there.
    """
    if on_gpu(job):
        from exporter.targets.ort.cuda import open_as_given

        return open_as_given(Path(job["path"]), job["threads"]).bind
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = ort.InferenceSession(job["path"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: partial(session.run, None, by_name(batch, name))


LOADERS: Final[Mapping[str, Loader]] = {
    "engine": load_engine,
    "bundle": load_bundle,
    "module": load_module,
    "onnx": load_onnx,
}
