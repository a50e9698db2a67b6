"""One engine, or the baseline, in a process of its own: the child's side of `interleaved.py`.

The parent writes one JSON object a line to stdin, the child answers with one a line:

    the job      {"kind", "path", "target", "threads", "shape", "dtype", "seed"} -> {"ready": true}
    a warm-up    {"warm_up": batch}            -> {"inferences", "median_s", "first_s"}
    a round      {"time": count, "discard": n} -> {"samples_s": [...]}
    an answer    {"inputs": npy, "outputs": npy} -> {"answered": true}: the first output, as a file
    facts        {"facts": true}               -> {"load_s", "rss_bytes", "peak_rss_bytes"}
    any failure                                -> {"error": one line, "unloadable": bool}

`kind` is a name in LOADERS, or `module:function` of a function like those in it; a job may name the
`cpus` that the process is to stay on.

stdin's end is the end of the process. Whatever a library prints goes to stderr, which the parent
keeps in a file.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import numpy as np
import psutil

from exporter.targets import Array, get_target

if TYPE_CHECKING:
    import torch

Run = Callable[[], object]
"""One inference on an input that is already in place."""
Loader = Callable[[Mapping[str, Any]], Callable[[Array], Run]]
"""Loads what a job names; the result puts an input in place."""

WINDOW_S: Final = 0.1
"""Length of one window of the warm-up, in seconds, but at least WINDOW_INFERENCES long."""
WINDOW_INFERENCES: Final = 3
SETTLED: Final = 0.03
"""The warm-up ends once the medians of two neighbouring windows differ by less than this part."""
WARM_UP_LIMIT_S: Final = 2.0

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
            reason = " ".join(str(error).split()) or type(error).__name__
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
        start = time.perf_counter()
        self._place = find_loader(job["kind"])(job)
        self._load_s = time.perf_counter() - start
        self._job = job
        self._run: Run | None = None

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if "warm_up" in request:
            shape = (request["warm_up"], *self._job["shape"])
            self._run = self._place(make_input(shape, self._job["dtype"], self._job["seed"]))
            first = sample_s(self._run, 1)
            return warm_up(self._run) | {"first_s": first[0]}
        if "inputs" in request:
            answer = self._place(np.load(request["inputs"]))()
            np.save(request["outputs"], np.asarray(first_output(answer)))
            return {"answered": True}
        if "facts" in request:
            return {"load_s": self._load_s} | resident_bytes()
        if self._run is None:
            raise ValueError("a round was asked for before the warm-up")
        sample_s(self._run, request["discard"])
        return {"samples_s": sample_s(self._run, request["time"])}


def make_input(shape: tuple[int, ...], dtype: str, seed: int) -> Array:
    """A seeded (N, ...) input: standard normal, or all byte values alike for an integer type."""
    generator = np.random.default_rng(seed)
    if np.issubdtype(np.dtype(dtype), np.integer):
        return generator.integers(0, 256, size=shape).astype(dtype)
    return generator.standard_normal(size=shape, dtype=np.float32).astype(dtype)


def sample_s(run: Run, count: int) -> list[float]:
    """The durations of `count` inferences back to back, in seconds."""
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


def warm_up(run: Run) -> dict[str, Any]:
    """Runs until the median of a window equals that of the window before, within SETTLED."""
    begin = time.perf_counter()
    inferences = 0
    previous = float("inf")
    while True:
        window = sample_s(run, WINDOW_INFERENCES)
        while sum(window) < WINDOW_S:
            window += sample_s(run, WINDOW_INFERENCES)
        inferences += len(window)
        median = statistics.median(window)
        settled = abs(median - previous) < SETTLED * median
        if settled or time.perf_counter() - begin > WARM_UP_LIMIT_S:
            return {"inferences": inferences, "median_s": median}
        previous = median


def first_output(answer: Any) -> Any:
    """What an inference answered; a runtime that lists all outputs lists this one first."""
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


def load_engine(job: Mapping[str, Any]) -> Callable[[Array], Run]:
    """An engine, opened by its target with everything that it requires set."""
    session = get_target(job["target"]).open(Path(job["path"]), job["threads"])
    return lambda batch: lambda: session.run(batch)


def load_module(job: Mapping[str, Any]) -> Callable[[Array], Run]:
    """An eager PyTorch module, in inference mode.

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

    return lambda batch: eager_run(module, batch)


def eager_run(module: torch.nn.Module, batch: Array) -> Run:
    """One answer of the module to the batch, which stays as it is."""
    import torch

    tensor = torch.from_numpy(batch)
    given = tensor.clone()
    with torch.inference_mode():
        module(given)
    # A forward that changes its input would soon compute with infinities or denormal numbers.
    keeps_its_input = torch.equal(given, tensor)

    def run() -> object:
        with torch.inference_mode():
            return module(tensor if keeps_its_input else tensor.clone())

    return run


def load_onnx(job: Mapping[str, Any]) -> Callable[[Array], Run]:
    """An ONNX file as ONNX Runtime takes it by default, apart from the number of threads."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = ort.InferenceSession(job["path"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: lambda: session.run(None, {name: batch})


LOADERS: Final[Mapping[str, Loader]] = {
    "engine": load_engine,
    "module": load_module,
    "onnx": load_onnx,
}
