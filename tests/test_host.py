"""What is said of this machine, and what must not be."""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import pytest

from exporter import host
from exporter.errors import UsageError


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_description_is_of_this_machine_and_does_not_identify_it() -> None:
    described = host.describe_host()
    assert described.threads == host.usable_threads()
    assert 1 <= described.threads <= described.logical_cpus
    assert described.versions["python"] == platform.python_version()
    assert described.cpu
    assert set(described.cpu_flags) <= host.cpu_flags()
    words = set(json.dumps(asdict(described)).replace('"', " ").replace(",", " ").split())
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words
    assert not any(word.startswith(str(Path.home())) for word in words)
    assert not any(word.startswith(os.sep) for word in words)


def test_versions_are_those_installed() -> None:
    versions = host.versions()
    assert versions["numpy"] == metadata.version("numpy")
    assert versions["torch"] == metadata.version("torch")
    assert "pip" not in versions


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys; from exporter import host; host.describe_host();"
        "print({'torch', 'onnx', 'onnxruntime', 'openvino', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


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
    assert host.cgroup_quota(tmp_path / "own", root) == expected


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert host.cgroup_quota(tmp_path / "own", tmp_path) is None


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
    monkeypatch.setattr(host, "_CPUS", tmp_path)
    monkeypatch.setattr(host, "_allowed_cpus", lambda: frozenset(allowed))
    monkeypatch.setattr(host, "cgroup_quota", lambda own, root: quota)
    assert host.usable_threads() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_threads_respect_this_process_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert host.usable_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


X86 = "processor : 0\nmodel name\t: A  CPU @ 2.0GHz\nflags\t\t: fpu avx2 avx512_vnni f16c\n\n"
ARM = "processor : 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part : 0xd40\n\n"


@pytest.mark.parametrize(
    ("text", "present", "absent", "vnni"),
    [
        (X86, {"avx2", "avx512_vnni", "f16c"}, {"amx_int8", "neon"}, True),
        (X86.replace("avx512_vnni", "avx512f"), {"avx512f"}, {"avx512_vnni"}, False),
        (ARM, {"neon", "dotprod", "i8mm"}, {"avx2"}, False),
    ],
)
def test_flags_have_one_spelling(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    present: set[str],
    absent: set[str],
    vnni: bool,
) -> None:
    write(tmp_path / "cpuinfo", text * 2)
    monkeypatch.setattr(host, "_CPUINFO", tmp_path / "cpuinfo")
    flags = host.cpu_flags()
    assert present <= flags
    assert not absent & flags
    assert host.has_vnni(flags) is vnni
    assert present & set(host.FLAGS_OF_INTEREST) <= set(host.describe_host().cpu_flags)


def test_cpu_name_is_tidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "cpuinfo", X86)
    monkeypatch.setattr(host, "_CPUINFO", tmp_path / "cpuinfo")
    assert host.describe_host().cpu == "A CPU @ 2.0GHz"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("NVIDIA L4, 580.65.06, 8.9\nNVIDIA L4, 580.65.06, 8.9\n", ("NVIDIA L4", "8.9")),
        ("No devices were found\n", (None, None)),
    ],
)
def test_gpu_is_what_the_driver_tells(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    expected: tuple[str | None, str | None],
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    described = host.describe_host()
    assert (described.gpu, described.compute_capability) == expected
    tool.write_text("#!/bin/sh\nexit 9\n")  # no driver
    assert host.describe_host().gpu is None


def test_two_onnxruntimes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    host.check_single_onnxruntime()
    installed = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(UsageError, match="pip uninstall") as caught:
        host.check_single_onnxruntime()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    del installed["onnxruntime"]
    host.check_single_onnxruntime()
    assert host.versions()["onnxruntime"] == "1.31.1"


def test_a_user_without_a_home_has_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert host.cache_folder("ranges") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert host.cache_folder("ranges") == tmp_path / "resnet-exporter" / "ranges"
