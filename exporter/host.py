"""This machine, as far as an engine's speed and loading depend on it.

Nothing here identifies the machine: no host name, user name, path or serial number, since what
`describe_host` returns goes into the manifest. Libraries are looked up by their installed
metadata, never imported.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from exporter.errors import UsageError

# What decides which kernels a CPU runtime picks, in the spelling of Linux's /proc/cpuinfo.
FLAGS_OF_INTEREST: Final = (
    "sse4_1", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "avx_vnni", "avx_vnni_int8", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
    "neon", "dotprod", "i8mm", "fp16", "bf16", "sve",
)  # fmt: skip

# The same features under other names: aarch64's /proc/cpuinfo, macOS's sysctl.
_FLAG_ALIASES: Final[Mapping[str, str]] = {
    "asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16",
    "advsimd": "neon", "feat_dotprod": "dotprod", "feat_i8mm": "i8mm", "feat_bf16": "bf16",
    "feat_fp16": "fp16", "avx2_0": "avx2", "avx512vnni": "avx512_vnni",
}  # fmt: skip

# name in the manifest -> distributions that provide it, the first installed one counts
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

_CPUINFO: Final = Path("/proc/cpuinfo")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")
_CPUS: Final = Path("/sys/devices/system/cpu")


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
        cpu=_cpu_name(),
        system=f"{platform.system()} {platform.machine()}",
        logical_cpus=os.cpu_count() or 1,
        threads=usable_threads(),
        cpu_flags=tuple(flag for flag in FLAGS_OF_INTEREST if flag in cpu_flags()),
        gpu=gpu,
        driver=driver,
        compute_capability=capability,
        versions=versions(),
    )


def usable_threads() -> int:
    """The threads that compute at full speed here: physical cores within affinity and quota.

    The second hyperthread of a core adds next to nothing to a convolution and much to its jitter;
    a thread beyond a cgroup's CPU quota gets the whole process throttled, so a quota of 1.5 CPUs
    counts as one.
    """
    allowed = _allowed_cpus()
    threads = _physical_cores(allowed, _CPUS)
    quota = cgroup_quota(_OWN_CGROUPS, _CGROUPS)
    if quota is not None:
        threads = min(threads, math.floor(quota))
    return max(1, threads)


def cgroup_quota(own: Path, root: Path) -> float | None:
    """The tightest CPU quota over this process's cgroup and its parents, in CPUs; None: no limit.

    `own` is /proc/self/cgroup, `root` where the controllers are mounted. Version 2 says
    "quota period" in cpu.max, version 1 has a file for each; "max" and -1 mean no limit.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = [root, root / "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [root / controllers, root / "cpu"]
        else:
            continue
        relative = Path(path.lstrip("/"))
        # In a container the path is the host's and may not exist below the mount: its root counts.
        for folder in {m / part for m in mounts for part in (relative, *relative.parents)}:
            quotas.append(_quota_of(folder))
    limits = [quota for quota in quotas if quota is not None]
    return min(limits) if limits else None


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except OSError:
        return None
    return None if quota in {"max", "-1"} else int(quota) / int(period)


def _allowed_cpus() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _physical_cores(cpus: Iterable[int], root: Path) -> int:
    """How many physical cores the logical `cpus` lie on; all of them where Linux doesn't tell."""
    cores = set()
    for cpu in cpus:
        siblings = root / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        try:
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(f"cpu{cpu}")
    return len(cores)


def cpu_flags() -> frozenset[str]:
    """The CPU's features, in the spelling of FLAGS_OF_INTEREST; empty where they cannot be read."""
    if _CPUINFO.exists():
        words = _cpuinfo_field(_CPUINFO.read_text(), "flags", "Features").split()
    elif platform.system() == "Darwin":
        words = re.findall(r"(\w+): 1$", _sysctl("hw.optional"), re.MULTILINE)
        words += _sysctl("machdep.cpu.features", "machdep.cpu.leaf7_features").split()
    else:
        words = []
    names = (word.lower() for word in words)
    return frozenset(_FLAG_ALIASES.get(name, name) for name in names)


AMX_FLAG = "amx_int8"
"""Tiles of 8-bit products."""


def has_vnni(flags: frozenset[str]) -> bool:
    """Whether 8-bit products accumulate in 32 bits without saturating in 16 on the way."""
    return bool(flags & {"avx512_vnni", "avx_vnni", "avx_vnni_int8"})


def _cpu_name() -> str:
    name = ""
    if _CPUINFO.exists():
        name = _cpuinfo_field(_CPUINFO.read_text(), "model name", "Model", "Hardware")
    elif platform.system() == "Darwin":
        name = _sysctl("machdep.cpu.brand_string").partition(":")[2].strip()
    return " ".join(name.split()) or platform.processor() or platform.machine()


def _cpuinfo_field(text: str, *names: str) -> str:
    for name in names:
        found = re.search(rf"^{re.escape(name)}\s*:(.*)$", text, re.MULTILINE)
        if found:
            return found[1].strip()
    return ""


def _sysctl(*names: str) -> str:
    done = subprocess.run(["sysctl", *names], capture_output=True, text=True, check=False)
    return done.stdout


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


def cache_folder(name: str) -> Path | None:
    """Where results of one kind that can be made again are kept; None for a user without a home.

    A folder in `resnet-exporter` in the user's cache. It may be missing, unwritable or full, and
    what is in it may be damaged: that costs the time to make it again, and never more.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "resnet-exporter" / name


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


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
