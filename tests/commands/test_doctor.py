"""`exporter doctor`: each line against the machine itself, and on machines that are not here."""

from __future__ import annotations

import importlib
import io
import json
import os
import platform
import subprocess
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import onnxruntime
import pytest
from rich.console import Console

from exporter import host
from exporter.commands import doctor
from exporter.errors import UsageError, install_command
from exporter.targets import TargetDiagnosis


@pytest.fixture(scope="module")
def here() -> doctor.Diagnosis:
    return doctor.diagnose()


def has_gpu() -> bool:
    try:
        return (
            subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


def status(diagnosis: doctor.Diagnosis) -> dict[str, str]:
    return {target.name: target.status for target in diagnosis.targets}


def installed(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def test_every_line_holds_on_this_machine(here: doctor.Diagnosis) -> None:
    found = status(here)
    assert found["ort-cpu"] == "available"
    assert found["openvino"] == ("available" if installed("openvino") else "missing")
    if has_gpu():
        assert here.host.gpu
        assert here.host.driver
    else:
        assert (here.host.gpu, here.host.driver, here.host.compute_capability) == (None,) * 3
        assert found["tensorrt-rtx"] == (
            "buildable only" if installed("tensorrt_rtx") else "missing"
        )
        assert {found[n] for n in ("tensorrt", "ort-cuda", "ort-tensorrt")} == {"missing"}
    assert here.host.versions["onnxruntime"] == onnxruntime.__version__
    assert here.host.versions["torch"] == metadata.version("torch")
    assert 1 <= here.host.threads <= (os.cpu_count() or 1)
    assert here.problems == ()
    assert {part.status for part in here.compiler} == {"available"}


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="reads /proc/cpuinfo"
)
def test_instruction_sets_are_the_kernels(here: doctor.Diagnosis) -> None:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    words = set(next(line for line in text.splitlines() if line.startswith("flags")).split())
    assert here.cpu_features == {
        "AVX2": "avx2" in words,
        "AVX-512": "avx512f" in words,
        "VNNI": bool({"avx512_vnni", "avx_vnni"} & words),
        "BF16": "avx512_bf16" in words,
        "AMX": bool({"amx_int8", "amx_bf16"} & words),
    }


def test_instruction_sets_of_other_machines() -> None:
    assert doctor.cpu_features(frozenset({"avx2"}), "x86_64") == {
        "AVX2": True, "AVX-512": False, "VNNI": False, "BF16": False, "AMX": False,
    }  # fmt: skip
    assert doctor.cpu_features(frozenset({"neon", "dotprod"}), "aarch64") == {
        "NEON": True, "dot product": True, "I8MM": False, "SVE": False,
    }  # fmt: skip
    assert doctor.cpu_features(frozenset(), "x86_64") == {}


def on(
    monkeypatch: pytest.MonkeyPatch,
    *,
    gpu: str | None = None,
    capability: str | None = None,
    absent: tuple[str, ...] = (),
    broken: tuple[str, ...] = (),
    providers: tuple[str, ...] = ("CPUExecutionProvider",),
) -> doctor.Diagnosis:
    """The diagnosis of another machine."""
    real = host.describe_host()
    other = replace(real, gpu=gpu, driver="580.1" if gpu else None, compute_capability=capability)
    monkeypatch.setattr(host, "describe_host", lambda: other)
    imports = importlib.import_module

    def import_module(name: str) -> object:
        if name in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in broken:
            raise ImportError("libnvinfer.so.10: cannot open shared object file")
        return object() if name == "tensorrt" else imports(name)

    monkeypatch.setattr("exporter.targets.diagnosis.import_module", import_module)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(providers))
    return doctor.diagnose()


def target(diagnosis: doctor.Diagnosis, name: str) -> TargetDiagnosis:
    return next(target for target in diagnosis.targets if target.name == name)


def test_a_gpu_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    both = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    monkeypatch.setattr("exporter.runtime.gpu_libraries.why_not", lambda _: None)
    for module in ("ort.gpu", "tensorrt.full"):
        monkeypatch.setattr(f"exporter.targets.{module}.why_it_fails", lambda _: None)
    found = on(monkeypatch, gpu="NVIDIA L4", capability="8.9", providers=both)
    names = ("tensorrt-rtx", "tensorrt", "ort-cuda", "ort-tensorrt")
    assert {status(found)[name] for name in names} == {"available"}
    assert "this GPU is sm89" in target(found, "tensorrt-rtx").detail
    assert all(target(found, name).command is None for name in names)


def test_a_gpu_that_rtx_does_not_support(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    found = on(monkeypatch, gpu="NVIDIA H100", capability="9.0")
    assert target(found, "tensorrt-rtx").status == "buildable only"
    assert "does not support this GPU (sm90), use tensorrt" in target(found, "tensorrt-rtx").detail


def test_a_gpu_with_the_cpu_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    found = on(monkeypatch, gpu="NVIDIA L4", capability="8.9", absent=("tensorrt",))
    assert target(found, "tensorrt").command == install_command("gpu")
    assert target(found, "tensorrt").detail == "tensorrt is not installed"
    cuda = target(found, "ort-cuda")
    assert "has no CUDAExecutionProvider" in cuda.detail
    assert cuda.command == f"pip uninstall -y onnxruntime && {install_command('gpu')}"


def test_a_library_that_is_installed_and_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = on(monkeypatch, gpu="NVIDIA L4", capability="8.9", broken=("tensorrt",))
    assert target(found, "tensorrt").status == "missing"
    assert "does not import: libnvinfer.so.10" in target(found, "tensorrt").detail


def test_a_bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    found = on(monkeypatch, absent=("onnxruntime", "openvino", "tensorrt_rtx", "torch"))
    for name in ("ort-cpu", "openvino", "tensorrt-rtx"):
        assert target(found, name).status == "missing"
    assert target(found, "ort-cpu").command == install_command("cpu")
    assert [part.name for part in found.compiler if part.status == "missing"] == ["torch"]


def test_a_platform_without_wheels_gets_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    found = on(monkeypatch, absent=("tensorrt_rtx",))
    assert target(found, "tensorrt-rtx").command is None
    assert "no wheels for this platform" in target(found, "tensorrt-rtx").detail


def test_both_onnxruntimes_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def both() -> None:
        raise UsageError("onnxruntime and onnxruntime-gpu are both installed")

    monkeypatch.setattr(host, "check_single_onnxruntime", both)
    assert doctor.diagnose().problems == ("onnxruntime and onnxruntime-gpu are both installed",)


def test_json_is_the_whole_diagnosis(here: doctor.Diagnosis) -> None:
    told = json.loads(here.to_json())
    assert {entry["name"]: entry["status"] for entry in told["targets"]} == status(here)
    assert told["host"]["threads"] == here.host.threads
    assert told["cpu_features"] == here.cpu_features


def test_the_tables_say_everything(here: doctor.Diagnosis) -> None:
    console = Console(file=io.StringIO(), width=250)
    doctor.render(replace(here, problems=("something [is] off",)), console)
    file = console.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    for part in (
        here.host.cpu,
        *here.cpu_features,
        *(target.name for target in here.targets),
        *(target.detail for target in here.targets),
        f"{here.host.threads} for an engine",
        "something [is] off",
    ):
        assert part in text
