"""The package with each library hidden in turn: every command works or says what to install.

A library is hidden from a process and from its children by a `sitecustomize` module, which Python
imports first. All commands of one environment run one after the other in one process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter.artifact import Precision, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.request import ExportRequest
from exporter.measure.timing import Ceilings, Latency
from exporter.pipeline import export_model
from exporter.progress import Silent

ROOT = Path(__file__).parents[1]
HIDE = """
import os, sys
for name in os.environ["HIDDEN_LIBRARIES"].split():
    sys.modules[name] = None
"""
RUN = """
import contextlib, io, json, sys, traceback
from exporter.cli import main

found = {}
for name, arguments in json.load(sys.stdin).items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            code = traceback.format_exc()
    found[name] = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True)
class Ran:
    """What became of one command."""

    code: int | str
    """The exit code, or a traceback."""
    out: str
    err: str


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits for two runtimes; no command changes but what it is asked for."""
    out = tmp_path_factory.mktemp("build") / "digits"
    request = ExportRequest(
        targets=("ort-cpu", "openvino"), precisions=(Precision.FP32,), out=out, samples=16,
        measure=False,
    )  # fmt: skip
    assert export_model(request, Silent()).manifest.failures == ()
    return out


def environment(folder: Path, libraries: str) -> dict[str, str]:
    (folder / "sitecustomize.py").write_text(HIDE)
    return {
        **os.environ,
        "HIDDEN_LIBRARIES": libraries,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }


def run_without(libraries: str, folder: Path, commands: dict[str, list[str]]) -> dict[str, Ran]:
    """The commands, one after the other, where the libraries cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN],
        input=json.dumps(commands),
        env=environment(folder, libraries),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: Ran(**ran) for name, ran in json.loads(done.stdout).items()}


def all_commands(build: Path, folder: Path) -> dict[str, list[str]]:
    return {
        "doctor": ["doctor", "--json"],
        "models": ["models", "--json"],
        "trace": ["trace", "resnet20-digits", "--json"],
        "validate": ["validate", str(build), "--quiet", "--threads", "1"],
        "explain": ["explain", str(build)],
        "report": ["report", str(build)],
        "compare": ["compare", str(build), str(build)],
        "pack": ["pack", str(build), "--out", str(folder / "bundle"), "--quiet"],
    }


def export_command(folder: Path, precisions: str) -> list[str]:
    words = ["export", "--precision", precisions, "--no-measure", "--samples", "16"]
    return [*words, "--threads", "1", "--out", str(folder / "out")]


def benchmark_command(build: Path) -> list[str]:
    return ["benchmark", str(build), "--rounds", "5", "--threads", "1", "--quiet"]


def check_works(ran: Ran) -> None:
    assert ran.code == 0, f"{ran.code} {ran.err}"
    assert "Traceback" not in ran.err


def check_says_what_to_install(ran: Ran, library: str) -> None:
    assert ran.code == 2, f"{ran.code} {ran.err}"
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ran.err
    assert library in errors[0]
    assert "pip install" in errors[0]
    assert "Traceback" not in ran.err


def statuses(doctor: Ran) -> dict[str, str]:
    told = json.loads(doctor.out)
    return {part["name"]: part["status"] for part in (*told["targets"], *told["compiler"])}


def words(text: str) -> str:
    """On one line: tables and notes are wrapped at the width of the terminal."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    "library",
    ["torch", "onnx", "onnx_ir", "onnxscript", "cattrs", "jinja2", "PIL", "psutil", "safetensors"],
)
def test_without_a_library_of_the_compiler(build: Path, tmp_path: Path, library: str) -> None:
    commands = all_commands(build, tmp_path) | {"export": export_command(tmp_path, "fp32")}
    if library != "onnxscript":  # without which it works, and that takes its time
        commands["benchmark"] = benchmark_command(build)
    ran = run_without(library, tmp_path, commands)
    for always in ("doctor", "models"):
        check_works(ran[always])
    assert statuses(ran["doctor"]).get(library, "missing") == "missing"
    check_says_what_to_install(ran["export"], library)
    for name in commands:
        if ran[name].code != 0:
            check_says_what_to_install(ran[name], library)
    assert not (tmp_path / "out").exists()


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
        "export": export_command(tmp_path, "fp32"),
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
def test_without_what_builds_plans(tmp_path: Path, library: str, named: str) -> None:
    """As on ARM and macOS: the default export works, without the plans."""
    commands = {
        "doctor": ["doctor", "--json"],
        "by name": ["export", "--target", "tensorrt-rtx", "--out", str(tmp_path / "named")],
    }
    if library == "tensorrt_rtx":
        commands["export"] = export_command(tmp_path, "fp16")
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
