"""What this machine grants an engine: CPU features and threads. Read, never guessed.

A small twin of the compiler's `exporter.host`: a server that imports `exporter.runtime` has nothing
else of the package.
"""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")
_CPUS: Final = Path("/sys/devices/system/cpu")
_VNNI: Final = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})


def cpu_flags() -> frozenset[str]:
    """The CPU's features as Linux spells them; empty where they cannot be read."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def saturates_u8s8(flags: frozenset[str]) -> bool:
    """Whether ONNX Runtime's U8 x S8 products saturate in 16 bits here: x86 without VNNI."""
    return platform.machine().lower() in {"x86_64", "amd64", "x86"} and not flags & _VNNI


def usable_threads() -> int:
    """Physical cores within this process's affinity and its cgroup's CPU quota, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    else:
        allowed = set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        try:
            cores.add((_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            cores.add(str(cpu))
    quota = _cgroup_quota()
    return max(1, math.floor(min(len(cores), quota)))


def _cgroup_quota() -> float:
    """The tightest quota of this process's cgroup (version 2) and its parents, in CPUs."""
    try:
        own = _OWN_CGROUP.read_text().rpartition("::")[2].strip().lstrip("/")
    except OSError:
        return math.inf
    quotas = [math.inf]
    for folder in (_CGROUPS / own, *(_CGROUPS / own).parents):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            quotas.append(int(quota) / int(period))
    return min(quotas)
