"""Commands in processes where libraries are hidden.

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

from exporter.artifact import Precision
from exporter.builds.request import ExportRequest
from exporter.pipeline import export_model
from exporter.progress import Silent

ROOT = Path(__file__).parents[1]
DIGITS = "resnet20-digits"
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


def small_build(folder: Path) -> Path:
    """Digits for two runtimes; no command changes but what it is asked for."""
    out = folder / "digits"
    request = ExportRequest(
        targets=("ort-cpu", "openvino"), precisions=(Precision.FP32,), out=out, samples=16,
        measure=False,
    )  # fmt: skip
    assert export_model(request, Silent()).manifest.failures == ()
    return out


def portable(build: Path) -> Path:
    """The ONNX file of the small build: exporting that takes a tenth of the time."""
    return build / "onnx" / f"{DIGITS}.fp32.onnx"


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


def export_command(folder: Path, precisions: str, model: str | Path = DIGITS) -> list[str]:
    words = ["export", str(model), "--precision", precisions, "--no-measure", "--samples", "16"]
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
