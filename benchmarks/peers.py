"""Loaders of the peers, called in the worker's process (`exporter.measure.worker.Loader`).

Each takes a job and returns what puts an input in place. Libraries are imported inside: the time
that this takes is part of the time to load.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from exporter.errors import MissingDependencyError
from exporter.measure.clock import Run
from exporter.runtime.machine import BF16_FLAG, cpu_flags
from exporter.targets import Array

Place = Callable[[Array], Run]


def load_channels_last(job: Mapping[str, Any]) -> Place:
    """Eager PyTorch with weights and input in NHWC memory order."""
    import torch

    module = _module(job).to(memory_format=torch.channels_last)
    return lambda batch: _inference(module, _nhwc(batch))


def load_compiled(job: Mapping[str, Any]) -> Place:
    """torch.compile in NHWC memory order; with `bf16` under BF16 autocast."""
    import torch

    module = _module(job).to(memory_format=torch.channels_last)
    return compiled(module, job["mode"], bf16=bool(job.get("bf16")))


def load_zentorch(job: Mapping[str, Any]) -> Place:
    """torch.compile with AMD's backend."""
    import torch
    import zentorch  # noqa: F401 - registers it

    module = _module(job)
    with torch.inference_mode():
        network = torch.compile(module, dynamic=False, backend="zentorch")
    return lambda batch: _inference(network, torch.from_numpy(batch))


def compiled(module: Any, mode: str = "default", *, bf16: bool = False) -> Place:
    """torch.compile with frozen weights, its input in NHWC; compiled at the first inference.

    Nothing is taken from a cache on disk, so that the time to the first inference is a real one.
    """
    import torch
    import torch._inductor.config as inductor

    inductor.freezing = True
    inductor.force_disable_caches = True
    # A pool of compilers would be more processes than the one that is stopped while it is idle.
    inductor.compile_threads = 1
    network = torch.compile(module, dynamic=False, mode=None if mode == "default" else mode)

    def in_bf16(batch: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return network(batch).float()  # type: ignore[no-untyped-call]

    forward = in_bf16 if bf16 else network
    return lambda batch: _inference(forward, _nhwc(batch))


def load_openvino(job: Mapping[str, Any]) -> Place:
    """An ONNX file or IR in OpenVINO, for latency; `hint` "default" leaves the precision to it.

    On CPUs with BF16 arithmetic OpenVINO's default is to compute float graphs in it.
    """
    import openvino as ov

    core = ov.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job["threads"]}
    if job["hint"] != "default":
        settings["INFERENCE_PRECISION_HINT"] = job["hint"]
    request = core.compile_model(core.read_model(job["path"]), "CPU", settings)
    request = request.create_infer_request()

    def place(batch: Array) -> Run:
        def run() -> object:
            return next(iter(request.infer({0: batch}, share_inputs=True).values()))

        return run

    return place


def has_bf16() -> bool:
    """Whether this CPU computes in BF16. Where it does not, a product of torch's takes a minute."""
    return BF16_FLAG in cpu_flags()


def require_bf16() -> None:
    """Raises MissingDependencyError where this CPU does not compute in BF16."""
    if not has_bf16():
        raise MissingDependencyError("this CPU has no BF16 arithmetic")


def require_zentorch() -> None:
    """Raises MissingDependencyError where AMD's backend for PyTorch is not installed."""
    if importlib.util.find_spec("zentorch") is None:
        raise MissingDependencyError(
            "zentorch, AMD's backend for PyTorch, is not installed; run: pip install zentorch=="
            "2.13.0.2 in an environment of its own (on AMD)"
        )


def _module(job: Mapping[str, Any]) -> Any:
    import torch

    torch.set_num_threads(job["threads"])
    torch.set_num_interop_threads(1)
    # The suite has just written this file: nothing foreign is unpickled.
    return torch.load(job["path"], weights_only=False)


def _nhwc(batch: Array) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(batch)).to(memory_format=torch.channels_last)


def _inference(module: Any, tensor: Any) -> Run:
    import torch

    def run() -> object:
        with torch.inference_mode():
            return module(tensor)

    return run
