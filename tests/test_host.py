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
from exporter.runtime import machine


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


def test_what_the_runtime_reads_is_what_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = frozenset({"avx2", "avx512_vnni", "hypervisor"})
    monkeypatch.setattr(host, "cpu_flags", lambda: flags)
    assert host.describe_host().cpu_flags == ("avx2", "avx512_vnni")
    assert host.usable_threads is machine.usable_threads


def test_versions_are_those_installed() -> None:
    versions = host.versions()
    assert versions["numpy"] == metadata.version("numpy")
    assert versions["torch"] == metadata.version("torch")
    assert "pip" not in versions


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys; from exporter import host; host.describe_host();"
        "print({'torch', 'onnx', 'onnxruntime', 'openvino', 'tensorrt'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


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
