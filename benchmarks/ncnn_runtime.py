"""ncnn, Tencent's runtime for devices, in FP32; pnnx converts for it."""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers import Place
from exporter.artifact import Model
from exporter.errors import BuildError, MissingDependencyError, install_command
from exporter.measure.clock import Run
from exporter.targets import Array


def convert(model: Model, out: Path) -> Path:
    """Writes `out` (.param), its weights beside it (.bin), by way of TorchScript, which pnnx reads.

    Raises:
        MissingDependencyError: ncnn or pnnx is not installed.
        BuildError: pnnx does not convert it.
    """
    for library in ("ncnn", "pnnx"):
        if importlib.util.find_spec(library) is None:
            raise MissingDependencyError(
                f"{library} is not installed; run: {install_command('bench')}"
            )
    import pnnx

    assert model.module is not None
    shape = (1, *model.spec.image_shape)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pnnx-") as folder:
        traced = Path(folder) / "net.pt"
        program = torch.jit.trace(model.module, torch.zeros(shape))  # type: ignore[no-untyped-call]
        torch.jit.save(program, traced)
        command = [
            str(pnnx.EXEC_PATH),
            traced.name,
            f"inputshape={list(shape)}f32".replace(" ", ""),
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode or not traced.with_suffix(".ncnn.param").exists():
            raise BuildError(f"pnnx does not convert {model.spec.name}: exit {done.returncode}")
        traced.with_suffix(".ncnn.bin").replace(out.with_suffix(".bin"))
        traced.with_suffix(".ncnn.param").replace(out)
    return out


def load(job: Mapping[str, Any]) -> Place:
    """The network of `convert`. It takes one image at a time; a batch is that many runs."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = job["threads"]
    net.load_param(job["path"])
    net.load_model(str(Path(job["path"]).with_suffix(".bin")))

    def one(image: Array) -> Array:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(image))
        return np.array(extractor.extract("out0")[1])

    def place(batch: Array) -> Run:
        return lambda: np.stack([one(image) for image in batch])

    return place
