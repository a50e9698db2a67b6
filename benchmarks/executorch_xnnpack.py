"""ExecuTorch with XNNPACK, PyTorch's runtime for devices, in FP32."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.peers import Place
from exporter.artifact import Model
from exporter.disk.writing import whole_file
from exporter.errors import MissingDependencyError, install_command
from exporter.measure.clock import Run
from exporter.targets import Array

_LARGEST_BATCH: Final = 64
"""A program plans its memory for it."""


def convert(model: Model, out: Path) -> Path:
    """Writes `out` (.pte): the module, all that XNNPACK takes given to it.

    Raises:
        MissingDependencyError: ExecuTorch is not installed.
    """
    if importlib.util.find_spec("executorch") is None:
        raise MissingDependencyError(
            f"ExecuTorch is not installed; run: {install_command('bench-executorch')}"
        )
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    assert model.module is not None
    batch = torch.export.Dim("batch", max=_LARGEST_BATCH)
    program = torch.export.export(
        model.module, (torch.zeros(2, *model.spec.image_shape),), dynamic_shapes=({0: batch},)
    )
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    with whole_file(out) as file:
        file.write_bytes(lowered.to_executorch().buffer)
    return out


def load(job: Mapping[str, Any]) -> Place:
    """The program of `convert`."""
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(job["threads"])
    method = Runtime.get().load_program(job["path"]).load_method("forward")

    def place(batch: Array) -> Run:
        given = [torch.from_numpy(batch)]
        return lambda: method.execute(given)[0].numpy()

    return place
