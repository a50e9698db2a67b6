"""This machine, as far as an engine's speed and loading depend on it.

CPU features and threads are read in `runtime/machine.py`, since what serves must see the same
machine. Nothing here identifies it: no host name, user name, path or serial number, for what
`describe_host` returns goes into the manifest. Libraries are looked up by their installed metadata,
never imported.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from exporter.errors import UsageError
from exporter.runtime.machine import AMX_FLAG, cpu_flags, cpu_name, usable_threads

__all__ = [
    "AMX_FLAG",
    "FLAGS_OF_INTEREST",
    "Host",
    "cache_folder",
    "check_single_onnxruntime",
    "compiler_extra",
    "cpu_flags",
    "describe_host",
    "usable_threads",
    "versions",
]

FLAGS_OF_INTEREST: Final = (
    "sse4_1", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "avx_vnni", "avx_vnni_int8", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
    "neon", "dotprod", "i8mm", "fp16", "bf16", "sve",
)  # fmt: skip
"""What decides which kernels a CPU runtime picks, in the spelling of `runtime/machine.py`."""

_LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    "exporter": ("resnet-exporter",),
    "numpy": ("numpy",),
    "torch": ("torch",),
    "onnx": ("onnx",),
    "onnx_ir": ("onnx-ir",),
    "onnxscript": ("onnxscript",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
    "polygraphy": ("polygraphy",),
    "timm": ("timm",),
}
"""Name in the manifest -> distributions that provide it; the first installed one counts."""


@dataclass(frozen=True)
class Host:
    """A description of this machine for the manifest."""

    cpu: str
    """The CPU's model name."""
    system: str
    """Operating system and architecture: "Linux x86_64"."""
    logical_cpus: int
    threads: int
    """How many threads an engine should use here (`usable_threads`)."""
    cpu_flags: tuple[str, ...]
    """Those of FLAGS_OF_INTEREST that the CPU has; empty where they cannot be read."""
    gpu: str | None
    """The first NVIDIA GPU's name; None: no driver answers."""
    driver: str | None
    compute_capability: str | None
    """Of that GPU, for example "8.9"."""
    versions: dict[str, str]


def describe_host() -> Host:
    """What this machine is; a few milliseconds without a GPU."""
    gpu, driver, capability = _nvidia_gpu() or (None, None, None)
    return Host(
        cpu=cpu_name(),
        system=f"{platform.system()} {platform.machine()}",
        logical_cpus=os.cpu_count() or 1,
        threads=usable_threads(),
        cpu_flags=tuple(flag for flag in FLAGS_OF_INTEREST if flag in cpu_flags()),
        gpu=gpu,
        driver=driver,
        compute_capability=capability,
        versions=versions(),
    )


def _nvidia_gpu() -> tuple[str, str, str] | None:
    """(name, driver, compute capability) of the first GPU, or None where no driver answers."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    fields = [field.strip() for field in done.stdout.partition("\n")[0].split(",")]
    return (fields[0], fields[1], fields[2]) if len(fields) == 3 else None


def versions() -> dict[str, str]:
    """Python's version and those of the installed libraries that an engine depends on."""
    found = {"python": platform.python_version()}
    for name, distributions in _LIBRARIES.items():
        version = next(filter(None, map(_version, distributions)), None)
        if version:
            found[name] = version
    return found


def cache_folder(kind: str = "") -> Path | None:
    """Where results of one kind that can be made again are kept; None for a user without a home.

    A folder in `resnet-exporter` in the user's cache; without a kind, that one itself. It may
    be missing, unwritable or full, and what is in it damaged: that costs the time to make it again,
    and never more.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "resnet-exporter" / kind


def check_single_onnxruntime() -> None:
    """Refuses an environment where two distributions overwrote each other's `onnxruntime`.

    Raises:
        UsageError: `onnxruntime` and `onnxruntime-gpu` are both installed.
    """
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        raise UsageError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
            "run `pip uninstall -y onnxruntime onnxruntime-gpu`, then install the one you need"
        )


def compiler_extra() -> str:
    """The extra that this environment has, of those that compile: more of the other would break it.

    `cpu` and `gpu` bring distributions of ONNX Runtime that overwrite each other.
    """
    return "gpu" if _version("onnxruntime-gpu") else "cpu"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
