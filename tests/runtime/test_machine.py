"""CPU features, saturation, and threads within affinity and quota: one answer for both sides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.runtime import machine
from exporter.targets.ort import session


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "100000 100000"}, 1.0),
        # A container sees the host's path in /proc and its own group at the mount's root.
        ("0::/docker/0123", {"cpu.max": "50000 100000"}, 0.5),
        (
            "12:cpu,cpuacct:/\n0::/",
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        (
            "12:cpu:/job\n3:cpuset:/job",
            {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("5:cpuacct:/", {"cpu.max": "100000 100000"}, None),
        ("0::/a", {"cpu.max": "50000 100000", "a/cpu.max": "damaged"}, 0.5),
    ],
)
def test_cgroup_quota(
    tmp_path: Path, own: str, files: dict[str, str], expected: float | None
) -> None:
    write(tmp_path / "own", f"{own}\n")
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, text in files.items():
        write(root / name, f"{text}\n")
    assert machine.cgroup_quota(tmp_path / "own", root) == expected


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert machine.cgroup_quota(tmp_path / "own", tmp_path) is None


@pytest.mark.parametrize(
    ("quota", "allowed", "expected"),
    [
        (None, {0, 1, 2, 3}, 2),  # four hyperthreads on two cores
        (None, {0, 2}, 1),  # both on one core
        (None, {0, 1}, 2),
        (1.5, {0, 1, 2, 3}, 1),  # a second thread would be throttled
        (0.5, {0, 1}, 1),
        (8.0, {0, 1, 2, 3}, 2),
        (None, {0, 1, 7}, 3),  # a CPU whose topology is not told is a core
    ],
)
def test_threads_respect_cores_affinity_and_quota(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quota: float | None,
    allowed: set[int],
    expected: int,
) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        write(tmp_path / f"cpu{cpu}/topology/thread_siblings_list", f"{siblings}\n")
    monkeypatch.setattr(machine, "_CPUS", tmp_path)
    monkeypatch.setattr(machine, "_allowed_cpus", lambda: frozenset(allowed))
    monkeypatch.setattr(machine, "cgroup_quota", lambda own, root: quota)
    assert machine.usable_threads() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_threads_respect_this_process_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.usable_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


X86 = "processor : 0\nmodel name\t: A  CPU @ 2.0GHz\nflags\t\t: fpu avx2 avx512_vnni f16c\n\n"
ARM = "processor : 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part : 0xd40\n\n"


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        (X86, {"avx2", "avx512_vnni", "f16c"}, {"amx_int8", "neon"}),
        (X86.replace("avx512_vnni", "avx512f"), {"avx512f"}, {"avx512_vnni"}),
        (ARM, {"neon", "dotprod", "i8mm"}, {"avx2"}),
    ],
)
def test_flags_have_one_spelling(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    present: set[str],
    absent: set[str],
) -> None:
    write(tmp_path / "cpuinfo", text * 2)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    flags = machine.cpu_flags()
    assert present <= flags
    assert not absent & flags


def test_cpu_name_is_tidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "cpuinfo", X86)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    assert machine.cpu_name() == "A CPU @ 2.0GHz"


@pytest.mark.parametrize(
    ("architecture", "flags", "saturates"),
    [
        ("x86_64", {"avx2"}, True),
        ("AMD64", set(), True),  # Windows tells no features
        ("x86_64", {"avx2", "avx_vnni"}, False),
        ("x86_64", {"amx_int8"}, False),
        ("aarch64", {"neon", "dotprod"}, False),
        ("arm64", set(), False),
    ],
)
def test_what_builds_and_what_serves_guard_against_saturation_on_the_same_cpus(
    monkeypatch: pytest.MonkeyPatch, architecture: str, flags: set[str], saturates: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: architecture)
    monkeypatch.setattr(session, "cpu_flags", lambda: frozenset(flags))
    assert machine.saturates_u8s8(frozenset(flags)) is saturates
    options = session.session_options(1)
    guarded = True
    try:
        options.get_session_config_entry("session.x64quantprecision")
    except RuntimeError:  # not set
        guarded = False
    assert guarded is saturates


def test_cpus_are_whole_cores_and_no_more_than_asked_for() -> None:
    cpus = machine.first_cores(1)
    assert cpus is None or len(cpus) == 1
