"""CUDA, cuDNN and TensorRT, loaded before a session in this process needs them.

NVIDIA's wheels put these libraries into site-packages, where the system's loader does not look, and
ONNX Runtime replaces a provider whose libraries it does not find by the CPU. So whoever makes a
session on a GPU provider asks `why_not` first: it loads what the provider is linked with, and names
the file that is missing and the package that has it. A library that is loaded once is found by its
name from then on, whoever asks.

On Windows ONNX Runtime's own `preload_dlls` is all that is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from exporter.runtime.errors import reason_of

CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"
DRIVER: Final = "libcuda.so.1"
_FATAL: Final = 4
"""ONNX Runtime's log level."""


@dataclass(frozen=True)
class Library:
    """A shared library, and the package on PyPI that brings it."""

    file: str
    package: str


@dataclass(frozen=True)
class Obstacle:
    """Why a provider does not work in this process."""

    reason: str
    package: str | None = None
    """What would add what is missing; None: no package does."""

    def __str__(self) -> str:
        return self.reason if self.package is None else f"{self.reason}; run: {self.command}"

    @property
    def command(self) -> str | None:
        """For the shell."""
        return None if self.package is None else f"pip install '{self.package}'"


def why_not(provider: str) -> Obstacle | None:
    """Loads what a provider of ONNX Runtime needs; None, or what is in the way.

    For a provider that needs no GPU it does nothing.
    """
    if provider not in (CUDA, TENSORRT):
        return None
    import onnxruntime as ort

    if provider not in ort.get_available_providers():
        return Obstacle(f"onnxruntime {ort.__version__} has no {provider}; onnxruntime-gpu has it")
    # Each plan of cuDNN's that does not fit is an error in its log, and the next one is tried; what
    # fails in the end is in an exception.
    ort.set_default_logger_severity(_FATAL)
    # It prints what it does not find, without saying what has it: that is told below.
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()
    cuda = ort.cuda_version.partition(".")[0]
    if sys.platform != "linux" or not cuda:  # a build that does not tell has its own libraries
        return None
    problem = _first_missing(cuda_libraries(int(cuda)))
    if problem is None and provider == TENSORRT:
        problem = _no_tensorrt(Path(ort.__file__).parent, str(ort.__version__))
    return problem or no_device()


def cuda_libraries(major: int) -> tuple[Library, ...]:
    """What the CUDA provider is linked with or opens for a convolution, in order of loading."""
    of_it = "" if major >= 13 else f"-cu{major}"
    return (
        Library(f"libcudart.so.{major}", f"nvidia-cuda-runtime{of_it}"),
        Library(f"libcublasLt.so.{major}", f"nvidia-cublas{of_it}"),
        Library(f"libcublas.so.{major}", f"nvidia-cublas{of_it}"),
        Library("libcurand.so.10", f"nvidia-curand{of_it}"),
        Library(f"libnvrtc.so.{major}", f"nvidia-cuda-nvrtc{of_it}"),
        Library("libcudnn.so.9", f"nvidia-cudnn-cu{major}"),
    )


def tensorrt_libraries(major: int) -> tuple[Library, ...]:
    """What the TensorRT provider is linked with beside CUDA."""
    package = f"tensorrt-cu13>={major},<{major + 1}"
    return (
        Library(f"libnvinfer.so.{major}", package),
        Library(f"libnvonnxparser.so.{major}", package),
    )


def linked_tensorrt(onnxruntime: Path) -> int:
    """The major version of TensorRT that the installed ONNX Runtime is linked with."""
    provider = onnxruntime / "capi" / "libonnxruntime_providers_tensorrt.so"
    found = re.search(rb"\0libnvinfer\.so\.(\d+)\0", provider.read_bytes())
    if found is None:
        raise ValueError(f"{provider.name} names no libnvinfer")
    return int(found[1])


def cuda_runtime_folder() -> Path | None:
    """Where a wheel of NVIDIA's has put the CUDA runtime; None: no wheel has."""
    found = _in_wheels("libcudart.so.*")
    return found[-1].parent if found else None


def _in_wheels(pattern: str) -> list[Path]:
    """Libraries of that name in NVIDIA's wheels, wherever `sys.path` has them."""
    spec = importlib.util.find_spec("nvidia")
    roots = (spec.submodule_search_locations if spec else None) or ()
    return sorted(file for root in roots for file in Path(root).glob(f"*/lib/{pattern}"))


def no_device() -> Obstacle | None:
    """None where NVIDIA's driver answers for a GPU, else why it does not."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return Obstacle(f"{DRIVER} is not here: it comes with NVIDIA's driver, not with a package")
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or count.value == 0:
        return Obstacle(f"NVIDIA's driver finds no GPU for this process (CUDA error {code})")
    return None


def _first_missing(libraries: Sequence[Library]) -> Obstacle | None:
    for library in libraries:
        try:
            _load(library.file)
        except OSError as error:
            return Obstacle(_what_is_missing(library.file, error), library.package)
    return None


def _load(file: str) -> None:
    """By its name, or else from a wheel: ONNX Runtime looks beside itself alone, and an environment
    on top of another one has the wheels elsewhere.
    """
    try:
        ctypes.CDLL(file)
    except OSError:
        found = _in_wheels(file)
        if not found:
            raise
        ctypes.CDLL(str(found[-1]))


def _what_is_missing(file: str, error: OSError) -> str:
    """A loader's message names the file first; another one is what the asked one needs."""
    absent = str(error).partition(":")[0]
    if absent == file:
        return f"{file} is not here"
    return f"{file} does not load ({reason_of(error)})"


def _no_tensorrt(folder: Path, onnxruntime: str) -> Obstacle | None:
    try:
        major = linked_tensorrt(folder)
    except OSError as error:
        return Obstacle(f"{error.filename} cannot be read: {error.strerror}", "onnxruntime-gpu")
    # Its package loads its libraries when it is imported.
    with contextlib.suppress(ImportError, OSError):
        importlib.import_module("tensorrt")
    problem = _first_missing(tensorrt_libraries(major))
    if problem is None:
        return None
    installed = _installed_tensorrt()
    other = f", and TensorRT {installed} is installed" if installed else ""
    return Obstacle(
        f"{problem.reason} (onnxruntime {onnxruntime} is linked with TensorRT {major}{other})",
        problem.package,
    )


def _installed_tensorrt() -> str | None:
    for name in ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return None
