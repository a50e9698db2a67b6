"""NVIDIA ModelOpt's INT8 ONNX, made in an environment of its own, on demand.

ModelOpt pins versions of onnx and onnxruntime that nothing else here can live with, so it is
installed into `build/bench/modelopt-venv`. Where that fails, the peer is missing and says why.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np

from exporter.data import Samples
from exporter.errors import BuildError, MissingDependencyError
from exporter.progress import Progress

REQUIREMENT: Final = "nvidia-modelopt[onnx]==0.47.0"
ENVIRONMENT: Final = Path("build/bench/modelopt-venv")
_INSTALL_LIMIT_S: Final = 900
_QUANTIZE_LIMIT_S: Final = 900


def quantize(graph: Path, samples: Samples, out: Path, progress: Progress) -> Path:
    """Writes `out`: the INT8 ONNX that ModelOpt makes of a plain export, with its defaults.

    Raises:
        MissingDependencyError: ModelOpt cannot be installed here.
        BuildError: it does not quantize the graph.
    """
    with progress.stage("install NVIDIA ModelOpt into an environment of its own"):
        python = _environment()
    data, partial = out.with_suffix(".npy"), out.with_suffix(".partial.onnx")
    np.save(data, np.concatenate(list(samples.batches(8))))
    command = [
        str(python), "-m", "modelopt.onnx.quantization", f"--onnx_path={graph}",
        "--quantize_mode=int8", f"--calibration_data={data}", "--calibration_eps", "cpu",
        f"--output_path={partial}",
    ]  # fmt: skip
    with progress.stage(f"{graph.parent.name}: ModelOpt"):
        try:
            _run(command, _QUANTIZE_LIMIT_S)
        except subprocess.SubprocessError as error:
            raise BuildError(f"ModelOpt does not quantize {graph.name}: {_last(error)}") from None
        finally:
            data.unlink(missing_ok=True)
    partial.replace(out)
    return out


def _environment() -> Path:
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = ENVIRONMENT / ".ready"
    if not ready.exists():
        try:
            _run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], _INSTALL_LIMIT_S)
            _run([str(python), "-m", "pip", "install", "--quiet", REQUIREMENT], _INSTALL_LIMIT_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise MissingDependencyError(
                f"{REQUIREMENT} cannot be installed: {_last(error)}"
            ) from None
        ready.touch()
    return python


def _run(command: list[str], limit_s: float) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=limit_s, env=environment
    )


def _last(error: BaseException) -> str:
    said = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return " ".join(said[-1].split()) if said else type(error).__name__
