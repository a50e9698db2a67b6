"""What this machine grants an engine: CPU features and threads. Read, never guessed.

The compiler asks here as well (`exporter.host`), so that what builds and what serves never disagree
about one machine.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

AMX_FLAG: Final = "amx_int8"
"""The CPU feature of matrix products in tiles of 8 bits."""

BF16_FLAG: Final = "avx512_bf16"
"""The CPU feature of products of BF16 numbers on x86; every CPU with AMX's has it, too."""

_WIDE_PRODUCTS: Final = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", AMX_FLAG})
"""Features of x86 that add U8 x S8 products in 32 bits, without saturating in 16 on the way."""

_FLAG_ALIASES: Final[Mapping[str, str]] = {
    "asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16",
    "advsimd": "neon", "feat_dotprod": "dotprod", "feat_i8mm": "i8mm", "feat_bf16": "bf16",
    "feat_fp16": "fp16", "avx2_0": "avx2", "avx512vnni": "avx512_vnni",
}  # fmt: skip
"""The same features under other names: aarch64's /proc/cpuinfo, macOS's sysctl."""

_CPUINFO: Final = Path("/proc/cpuinfo")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")
_CPUS: Final = Path("/sys/devices/system/cpu")


def cpu_flags() -> frozenset[str]:
    """The CPU's features, in one spelling for all systems; empty where they cannot be read."""
    words = _cpuinfo_field("flags", "Features").split()
    if not words and platform.system() == "Darwin":
        words = re.findall(r"(\w+): 1$", _sysctl("hw.optional"), re.MULTILINE)
        words += _sysctl("machdep.cpu.features", "machdep.cpu.leaf7_features").split()
    names = (word.lower() for word in words)
    return frozenset(_FLAG_ALIASES.get(name, name) for name in names)


def cpu_name() -> str:
    """The CPU's model name."""
    name = _cpuinfo_field("model name", "Model", "Hardware")
    if not name and platform.system() == "Darwin":
        name = _sysctl("machdep.cpu.brand_string").partition(":")[2]
    return " ".join(name.split()) or platform.processor() or platform.machine()


def saturates_u8s8(flags: frozenset[str]) -> bool:
    """Whether ONNX Runtime's U8 x S8 products saturate in 16 bits here: x86 without VNNI."""
    return on_x86() and not flags & _WIDE_PRODUCTS


def on_x86() -> bool:
    """Whether this CPU's instruction set is x86's."""
    return platform.machine().lower() in {"x86_64", "amd64", "x86"}


def usable_threads() -> int:
    """The threads that compute at full speed here: physical cores within affinity and quota.

    The second hyperthread of a core adds next to nothing to a convolution and much to its jitter;
    a thread beyond a cgroup's CPU quota gets the whole process throttled, so a quota of 1.5 CPUs
    counts as one.
    """
    threads = _physical_cores(_allowed_cpus(), _CPUS)
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
        return None if quota in {"max", "-1"} else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def first_cores(count: int) -> list[int] | None:
    """A logical CPU on each of the first `count` physical cores that this process may use.

    None where the system cannot keep a process on a CPU.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores: dict[str, int] = {}
    for cpu in sorted(_allowed_cpus()):
        cores.setdefault(_core_of(cpu, _CPUS), cpu)
    return list(cores.values())[:count]


def _allowed_cpus() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _physical_cores(cpus: Iterable[int], root: Path) -> int:
    """How many physical cores the logical `cpus` lie on; all of them where Linux doesn't tell."""
    return len({_core_of(cpu, root) for cpu in cpus})


def _core_of(cpu: int, root: Path) -> str:
    try:
        return (root / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return f"cpu{cpu}"


def _cpuinfo_field(*names: str) -> str:
    """The first of these fields that /proc/cpuinfo has; "" where there is none."""
    try:
        text = _CPUINFO.read_text()
    except OSError:
        return ""
    for name in names:
        found = re.search(rf"^{re.escape(name)}\s*:(.*)$", text, re.MULTILINE)
        if found:
            return found[1].strip()
    return ""


def _sysctl(*names: str) -> str:
    try:
        done = subprocess.run(["sysctl", *names], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout
