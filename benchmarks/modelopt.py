"""NVIDIA ModelOpt's INT8 ONNX, made in an environment of its own, on demand.

ModelOpt pins versions of onnx and onnxruntime that nothing else here can live with, so it is
installed into `build/bench/modelopt-venv` (1.4 GB), without what only its GPU paths need: its own
requirements bring CUDA. Where that fails, the peer is missing and says why.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from exporter.errors import BuildError, MissingDependencyError
from exporter.images.samples import Samples
from exporter.progress import Progress

REQUIREMENT: Final = "nvidia-modelopt==0.47.0"
BESIDE: Final = (
    "torch==2.13.0", "onnx==1.21.0", "onnxruntime==1.24.4", "onnxscript==0.7.2", "cppimport",
    "lief", "ninja", "nvidia-ml-py", "omegaconf", "onnx-graphsurgeon", "onnxconverter-common",
    "onnxslim", "polygraphy", "PuLP", "pydantic", "regex", "rich", "safetensors", "scipy", "tqdm",
)  # fmt: skip
ENVIRONMENT: Final = Path("build/bench/modelopt-venv")
_INSTALL_LIMIT_S: Final = 900
_QUANTIZE_LIMIT_S: Final = 900


def quantize(graph: Path, samples: Samples, out: Path, progress: Progress) -> Path:
    """Writes `out`: the INT8 ONNX that ModelOpt makes of a plain export.

    With its defaults, but for float32 between the quantized layers: its default, float16, is for
    TensorRT; ONNX Runtime's CPU provider has no such kernels, and its answers are then 0.36 off
    (rel_l2, resnet18) instead of 0.018.

    Raises:
        MissingDependencyError: ModelOpt cannot be installed here.
        BuildError: it does not quantize the graph.
    """
    with progress.stage("install NVIDIA ModelOpt into an environment of its own"):
        python = _environment()
    with (
        progress.stage(f"{graph.parent.name}: ModelOpt"),
        # It writes intermediate models beside its output.
        tempfile.TemporaryDirectory(dir=out.parent, prefix=".modelopt-") as folder,
    ):
        data, written = Path(folder) / "data.npy", Path(folder) / out.name
        np.save(data, np.concatenate(list(samples.batches(8))))
        command = [
            str(python), "-m", "modelopt.onnx.quantization", f"--onnx_path={graph}",
            "--quantize_mode=int8", "--high_precision_dtype=fp32",
            f"--calibration_data_path={data}", "--calibration_eps", "cpu",
            f"--output_path={written}",
        ]  # fmt: skip
        try:
            _run(command, _QUANTIZE_LIMIT_S)
        except subprocess.SubprocessError as error:
            raise BuildError(f"ModelOpt does not quantize {graph.name}: {_last(error)}") from None
        written.replace(out)
    return out


def _environment() -> Path:
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = ENVIRONMENT / ".ready"
    if not ready.exists():
        try:
            _run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], _INSTALL_LIMIT_S)
            install = [str(python), "-m", "pip", "install", "--quiet"]
            _run([*install, "--no-deps", REQUIREMENT], _INSTALL_LIMIT_S)
            _run([*install, *BESIDE], _INSTALL_LIMIT_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise MissingDependencyError(
                f"{REQUIREMENT} cannot be installed: {_last(error)}"
            ) from None
        ready.touch()
    return python


def _run(command: list[str], limit_s: float) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["PYTHONSAFEPATH"] = "1"  # what lies in the working directory is not run
    subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=limit_s, env=environment
    )


def _last(error: BaseException) -> str:
    said = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return " ".join(said[-1].split()) if said else type(error).__name__
