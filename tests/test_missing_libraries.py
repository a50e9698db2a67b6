"""Without a runtime, or without what one option needs: every command works or says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exporter.artifact import Skipped
from exporter.builds import manifest as manifests
from exporter.measure.timing import Ceilings, Latency
from tests.hidden_libraries import (
    Ran,
    all_commands,
    benchmark_command,
    check_says_what_to_install,
    check_works,
    environment,
    export_command,
    portable,
    run_without,
    small_build,
    statuses,
    words,
)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_build(tmp_path_factory.mktemp("build"))


def test_without_onnx_runtime(build: Path, tmp_path: Path) -> None:
    """OpenVINO's engines are validated, measured and built; nothing hides behind the others."""
    commands = all_commands(build, tmp_path) | {
        "export": export_command(tmp_path, "fp32,int8"),
        "by name": ["export", "--target", "ort-cpu", "--out", str(tmp_path / "named")],
    }
    ran = run_without("onnxruntime", tmp_path, commands)
    check_says_what_to_install(ran.pop("by name"), "ONNX Runtime")
    for one in ran.values():
        check_works(one)
    assert statuses(ran["doctor"])["ort-cpu"] == "missing"
    assert statuses(ran["doctor"])["openvino"] == "available"
    validated = words(ran["validate"].out)
    assert "passed" in validated
    assert "ONNX Runtime" in validated
    built = [engine.id for engine in manifests.read(tmp_path / "out").engines]
    assert built == ["openvino.fp32"]
    notes = words(ran["export"].err)
    assert "note: ort-cpu is left out: target ort-cpu needs ONNX Runtime" in notes
    assert "note: openvino.int8 is left out" in notes
    assert "note: that the rewrites of the graph change no number was not proved" in notes


def test_without_openvino(build: Path, tmp_path: Path) -> None:
    commands = all_commands(build, tmp_path) | {
        "benchmark": benchmark_command(build),
        "export": export_command(tmp_path, "fp32", portable(build)),
        "by name": ["export", "--target", "openvino", "--out", str(tmp_path / "named")],
    }
    ran = run_without("openvino", tmp_path, commands)
    check_says_what_to_install(ran.pop("by name"), "OpenVINO")
    for one in ran.values():
        check_works(one)
    assert statuses(ran["doctor"])["openvino"] == "missing"
    assert "OpenVINO, which is not installed" in words(ran["validate"].out)
    assert "passed" in words(ran["validate"].out)
    ours, theirs = manifests.read(build).engines
    assert isinstance(ours.latency, Latency)
    assert isinstance(theirs.latency, Skipped)
    assert "OpenVINO, which is not installed" in theirs.latency.skipped
    ceilings = manifests.read(build).host.ceilings
    assert isinstance(ceilings, Ceilings)
    assert all(name.endswith("openvino") for name in ceilings.left_out)
    assert ceilings.left_out
    assert [engine.id for engine in manifests.read(tmp_path / "out").engines] == ["ort-cpu.fp32"]
    assert "note: openvino is left out" in words(ran["export"].err)


@pytest.mark.parametrize(
    ("library", "named"), [("tensorrt_rtx", "TensorRT-RTX"), ("polygraphy", "Polygraphy")]
)
def test_without_what_builds_plans(build: Path, tmp_path: Path, library: str, named: str) -> None:
    """As on ARM and macOS: the default export works, without the plans."""
    commands = {
        "doctor": ["doctor", "--json"],
        "by name": ["export", "--target", "tensorrt-rtx", "--out", str(tmp_path / "named")],
    }
    if library == "tensorrt_rtx":
        commands["export"] = export_command(tmp_path, "fp16", portable(build))
    ran = run_without(library, tmp_path, commands)
    check_says_what_to_install(ran.pop("by name"), named)
    for one in ran.values():
        check_works(one)
    if library == "tensorrt_rtx":
        built = [engine.id for engine in manifests.read(tmp_path / "out").engines]
        assert built == ["ort-cpu.fp16"]
        assert "note: tensorrt-rtx is left out" in words(ran["export"].err)


def test_without_what_only_some_options_need(build: Path, tmp_path: Path) -> None:
    """Hidden together: none of them is in the way of a command that does not need it."""
    commands = all_commands(build, tmp_path) | {
        "timm": ["trace", "timm:resnet18"],
        "zstandard": ["pack", str(build), "--out", str(tmp_path / "bundle.tar.zst")],
        "cryptography": [
            "pack", str(build), "--out", str(tmp_path / "signed"), "--sign", str(tmp_path / "key"),
        ],
    }  # fmt: skip
    ran = run_without("timm matplotlib zstandard cryptography", tmp_path, commands)
    for library in ("timm", "zstandard", "cryptography"):
        check_says_what_to_install(ran.pop(library), library)
    for one in ran.values():
        check_works(one)
    assert {path.name for path in tmp_path.iterdir()} == {"sitecustomize.py", "bundle"}


@pytest.mark.parametrize("library", ["typer", "rich"])
def test_without_what_the_command_line_itself_needs(tmp_path: Path, library: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "exporter", "models"],
        env=environment(tmp_path, library),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    check_says_what_to_install(Ran(done.returncode, done.stdout, done.stderr), library)


def test_what_a_target_says_of_itself_needs_no_library(tmp_path: Path) -> None:
    """Its module is imported, and asked, where nothing but numpy is installed."""
    script = (
        "from exporter import host\n"
        "from exporter.targets import TARGETS, MachineKind, target_class\n"
        "here = host.describe_host()\n"
        "for name in TARGETS:\n"
        "    cls = target_class(name)\n"
        "    assert cls.mark and cls.library and cls.runs_on\n"
        "    assert [cls.default_for(kind) for kind in MachineKind]\n"
        "    assert {line.status.value for line in cls.diagnose(here)} == {'missing'}\n"
    )
    hidden = (
        "onnxruntime openvino tensorrt tensorrt_rtx polygraphy torch onnx onnx_ir onnxscript "
        "psutil rich typer jinja2 PIL cattrs"
    )
    subprocess.run(
        [sys.executable, "-P", "-c", script],
        env=environment(tmp_path, hidden),
        timeout=60,
        check=True,
    )
