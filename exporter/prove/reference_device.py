"""Where the reference answers in float32: on the CPU, or on the GPU that the engines run on.

Float64 is the CPU's wherever that is: it is the truth that both are held against.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.artifact import Model
from exporter.errors import UsageError, install_command, unused_option
from exporter.targets import MachineKind

if TYPE_CHECKING:
    import torch


def check_device(device: MachineKind, model: Model) -> None:
    """Refuses to run a model's reference where it cannot be run.

    Raises:
        UsageError: as it says.
    """
    if device is MachineKind.CPU:
        return
    if model.module is None:
        raise unused_option("--reference-device", "PyTorch modules, and an ONNX file is given")
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            f"--reference-device gpu: torch {torch.__version__} reaches no NVIDIA GPU here; leave "
            f"it out, or run: {install_command('gpu')}"
        )


@contextmanager
def float32_on(device: MachineKind, module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The module on a device, there without TF32; afterwards PyTorch's settings are as before."""
    if device is MachineKind.CPU:
        yield module
        return
    import torch

    from exporter.models.usable_module import copied_module

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield copied_module(module).to("cuda")
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
