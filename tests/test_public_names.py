"""`import exporter`: the names that are kept, light until one of them is used."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import exporter
import exporter.runtime

ROOT = Path(__file__).parents[1]
NAMES = [
    "Accuracy", "Benchmark", "Build", "BuildError", "Classification", "EngineRecord",
    "EvaluatedEngine", "Evaluation", "ExporterError", "FailedEngine", "Gate", "Gated",
    "GatedEngine", "InputError", "Latency", "Manifest", "MissingDependencyError",
    "NotReproducedError", "Packed", "Parity", "Plan", "Precision", "Profile", "Progress",
    "Receipt", "ServedPoint", "Skipped", "Speedup", "Sweep", "Throughput",
    "UnknownEngineError", "UsageError", "Validation", "__version__", "classify", "export", "load",
    "open_build", "sweep",
]  # fmt: skip
HEAVY = ("torch", "onnx", "onnx_ir", "onnxruntime", "openvino", "typer", "rich", "cattrs", "jinja2")


def run(program: str, cwd: Path) -> str:
    return subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_names_are_these() -> None:
    assert exporter.__all__ == NAMES
    assert set(NAMES) <= set(dir(exporter))
    for name in NAMES:
        assert getattr(exporter, name) is not None
    assert exporter.load is exporter.runtime.load
    with pytest.raises(AttributeError, match="no attribute 'exprot'"):
        exporter.exprot  # noqa: B018


def test_type_checkers_see_the_names_where_they_are() -> None:
    tree = ast.parse(Path(exporter.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        node.module: tuple(name.name for name in node.names)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }
    assert seen == exporter._HOMES


def test_importing_it_imports_nothing_heavy(tmp_path: Path) -> None:
    program = "import exporter, json, sys; print(json.dumps(list(sys.modules)))"
    assert set(json.loads(run(program, tmp_path))).isdisjoint(HEAVY)


def test_without_the_compiler_it_serves_and_says_what_is_missing(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['cattrs'] = None\n"
        "import exporter\n"
        "print(exporter.load.__name__)\n"
        "try: exporter.export\n"
        "except exporter.MissingDependencyError as error: print(error)\n"
    )
    loaded, error = run(program, tmp_path).splitlines()
    assert loaded == "load"
    assert error.startswith("exporter.export needs cattrs (exporter.load works without it); run: ")
