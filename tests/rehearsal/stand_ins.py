"""Empty shared libraries in the place of those that are not here: compiled, and as a wheel.

They define the symbols that the real packages take from them, and do nothing. TensorRT's libraries
come from an index of NVIDIA's own; a wheel of their name lets pip install the rest of the extra as
it is. The driver's comes with a GPU.

    python tests/rehearsal/stand_ins.py FOLDER

writes the wheel, in the version that `constraints/gpu.txt` pins.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CONSTRAINTS: Final = Path(__file__).parents[2] / "constraints" / "gpu.txt"

NVINFER: Final = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "getBuilderPluginRegistry",
    "getInferLibVersion",
)
PARSER: Final = (
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getNvOnnxParserVersion",
)
PLUGINS: Final = ("initLibNvInferPlugins",)
REGISTRY: Final = """
static void* no_creators(void* self, int* count) { *count = 0; return 0; }
static void* methods[32] = {[0 ... 31] = no_creators};
static void* registry = methods;
void* getPluginRegistry(void) { return &registry; }
"""
"""TensorRT's list of plugins, empty: ONNX Runtime asks for it before anything else."""
"""All that the Python bindings and ONNX Runtime's provider take from TensorRT; a test compares."""

NO_GPU: Final = (
    "int cuInit(int flags) { return 100; }\nint cuDeviceGetCount(int* n) { return 100; }"
)
ONE_GPU: Final = (
    "int cuInit(int flags) { return 0; }\nint cuDeviceGetCount(int* n) { *n = 1; return 0; }"
)
"""A driver without a GPU, and one that claims a GPU and does nothing else."""
DRIVER: Final = ("cuTensorMapEncodeTiled",)
"""What the CUDA provider takes from the driver."""

HOST_MEMORY: Final = """
int cudaMalloc(void** place, size_t bytes) { *place = malloc(bytes); return 0; }
int cudaFree(void* place) { free(place); return 0; }
int cudaStreamCreate(void** stream) { *stream = malloc(1); return 0; }
int cudaStreamDestroy(void* stream) { free(stream); return 0; }
"""
CUDA_RUNTIME: Final = ("cudaMemcpy", "cudaMemcpyAsync", "cudaStreamSynchronize")
"""What Polygraphy's runner asks of the CUDA runtime, on memory of the host."""

TELLS: Final = "STAND_INS_TELL"
"""With this variable set, a function of TensorRT says its name when it is called."""
FUNCTION: Final = """
void* {name}(void) {{ if (getenv("{tells}")) fprintf(stderr, "called {name}\\n"); return 0; }}
"""
NVIDIA_SMI: Final = """#!/bin/sh
echo "Stand-in, 580.1, 8.9"
"""

LOADS: Final = '''"""As NVIDIA's own package does: loads every library that lies beside it."""

import ctypes
from pathlib import Path

for name in {names!r}:
    ctypes.CDLL(str(Path(__file__).with_name(name)))
'''


def compile_library(path: Path, symbols: tuple[str, ...], source: str = "") -> None:
    """A shared library whose functions answer 0."""
    functions = "".join(FUNCTION.format(name=name, tells=TELLS) for name in symbols)
    content = f"#include <stdio.h>\n#include <stdlib.h>\n{functions}{source}"
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        "cc",
        "-shared",
        "-fPIC",
        f"-Wl,-soname,{path.name}",
        "-x",
        "c",
        "-",
        "-o",
        str(path),
    ]
    subprocess.run(command, input=content, text=True, check=True)


def driver(folder: Path, source: str) -> Path:
    """A folder with a `libcuda.so.1` and an `nvidia-smi`, for LD_LIBRARY_PATH and PATH."""
    compile_library(folder / "libcuda.so.1", DRIVER, source)
    (folder / "nvidia-smi").write_text(NVIDIA_SMI, encoding="utf-8")
    (folder / "nvidia-smi").chmod(0o755)
    return folder


def cuda_runtime(folder: Path) -> Path:
    """A folder with a `libcudart.so` for a runner whose engine computes nothing."""
    compile_library(folder / "libcudart.so", CUDA_RUNTIME, HOST_MEMORY)
    return folder


def tensorrt(folder: Path, major: int) -> Path:
    """A folder with the package `tensorrt_libs` of one major version of TensorRT."""
    libraries: Mapping[str, tuple[str, ...]] = {
        f"libnvinfer.so.{major}": NVINFER,
        f"libnvinfer_plugin.so.{major}": PLUGINS,
        f"libnvonnxparser.so.{major}": PARSER,
    }
    package = folder / "tensorrt_libs"
    for name, symbols in libraries.items():
        compile_library(package / name, symbols, REGISTRY if symbols is NVINFER else "")
    (package / "__init__.py").write_text(LOADS.format(names=list(libraries)), encoding="utf-8")
    return folder


def pinned(distribution: str) -> str:
    """A distribution's version in constraints/gpu.txt."""
    found = re.search(rf"^{distribution}==([\w.]+)$", CONSTRAINTS.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise LookupError(f"{CONSTRAINTS} does not pin {distribution}")
    return found[1]


def wheel(folder: Path) -> Path:
    """A wheel of TensorRT's libraries, empty, in the version that is pinned."""
    version = pinned("tensorrt-cu13")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tensorrt_cu13_libs-{version}-py3-none-any.whl"
    info = f"tensorrt_cu13_libs-{version}.dist-info"
    with tempfile.TemporaryDirectory() as made, zipfile.ZipFile(path, "w") as archive:
        for file in sorted((tensorrt(Path(made), int(version.partition(".")[0]))).rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(made))
        archive.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: tensorrt-cu13-libs\nVersion: {version}\n"
            "Summary: Empty stand-ins, for a rehearsal without a GPU\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


if __name__ == "__main__":
    wheel(Path(sys.argv[1]))
