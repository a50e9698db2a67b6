"""Loaders of the peers on an NVIDIA GPU (`exporter.measure.worker.Loader`).

Each takes a job and returns what puts a tensor that lies in the GPU's memory in place; the clock is
`exporter.measure.cuda_clock`, which has switched TF32 off before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from exporter.errors import MissingDependencyError, install_command
from exporter.measure.clock import Place
from exporter.measure.worker import load_module


def require_gpu() -> None:
    """Raises MissingDependencyError where this process's PyTorch reaches no GPU."""
    from exporter.measure.cuda_clock import require_cuda

    require_cuda()


def require_torch_tensorrt() -> None:
    """Raises MissingDependencyError where torch-tensorrt is not installed, or there is no GPU."""
    require_gpu()
    if importlib.util.find_spec("torch_tensorrt") is None:
        raise MissingDependencyError(
            "torch-tensorrt is not installed; run: pip install torch-tensorrt "
            f"(beside {install_command('gpu')})"
        )


def load_tf32(job: Mapping[str, Any]) -> Place:
    """Eager PyTorch with TF32 in convolutions and products."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    return load_module(job)


def load_channels_last(job: Mapping[str, Any]) -> Place:
    """Eager PyTorch with weights and input in NHWC memory order."""
    import torch

    module = _module(job).to(memory_format=torch.channels_last)
    return lambda given: _inference(lambda: module(_nhwc(given)))


def load_autocast(job: Mapping[str, Any]) -> Place:
    """Eager PyTorch under FP16 autocast, in NHWC memory order, which its kernels want."""
    import torch

    module = _module(job).to(memory_format=torch.channels_last)

    def place(given: torch.Tensor) -> Any:
        def run() -> Any:
            with torch.autocast("cuda", torch.float16):
                return module(_nhwc(given))

        return _inference(run)

    return place


def load_compiled(job: Mapping[str, Any]) -> Place:
    """torch.compile for the least overhead, which takes CUDA graphs; `half` in FP16 and NHWC."""
    import torch

    module = _module(job).to(memory_format=torch.channels_last)
    if job["half"]:
        module = module.half()
    compiled: Any = torch.compile(module, dynamic=False, mode="reduce-overhead")
    begins: Any = torch.compiler.cudagraph_mark_step_begin
    dtype = torch.float16 if job["half"] else torch.float32

    def place(given: torch.Tensor) -> Any:
        def run() -> Any:
            begins()
            return compiled(_nhwc(given).to(dtype))

        return _inference(run)

    return place


def load_torch_tensorrt(job: Mapping[str, Any]) -> Place:
    """Torch-TensorRT's Dynamo compiler, FP16, at the batch size that is timed."""
    import torch
    import torch_tensorrt

    module = _module(job).half().eval()
    compiled: dict[tuple[int, ...], Any] = {}

    def place(given: torch.Tensor) -> Any:
        shape = tuple(given.shape)
        if shape not in compiled:  # once for all inputs of a batch size
            compiled[shape] = torch_tensorrt.compile(
                module, ir="dynamo", inputs=[given.half()], use_explicit_typing=True
            )
        return _inference(lambda: compiled[shape](given.half()))

    return place


def _module(job: Mapping[str, Any]) -> Any:
    import torch

    torch.set_num_threads(job["threads"])
    # The suite has just written this file: nothing foreign is unpickled.
    return torch.load(job["path"], weights_only=False).to("cuda")


def _nhwc(given: Any) -> Any:
    import torch

    return given.contiguous(memory_format=torch.channels_last)


def _inference(forward: Any) -> Any:
    import torch

    def run() -> Any:
        with torch.inference_mode():
            return forward()

    return run
