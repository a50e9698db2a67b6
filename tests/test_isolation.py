"""What lies in the working directory is not run, but for the module that the user names."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from exporter.measure.process import import_path

ROOT = Path(__file__).parents[1]
HOSTILE = (
    "numpy", "json", "polygraphy", "tensorrt_rtx", "onnxruntime", "openvino", "torch", "psutil",
    "statistics", "tempfile", "signal", "ctypes", "onnx", "cattrs", "rich", "jinja2",
)  # fmt: skip
MINE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.fc = torch.nn.Linear(8, 5)
    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))
"""


def installed_targets() -> list[str]:
    """ONNX Runtime, and TensorRT-RTX where it has a wheel."""
    return ["ort-cpu", *(["tensorrt-rtx:sm89"] if find_spec("tensorrt_rtx") else [])]


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder of modules that say that they were run."""
    for name in HOSTILE:
        (tmp_path / f"{name}.py").write_text(
            f"from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"
            f"raise ImportError('the {name} of the working directory')\n"
        )
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def test_an_export_runs_nothing_of_the_folder_that_it_is_started_in(trap: Path) -> None:
    """The parent, the builder of TensorRT plans, the processes of engines and of the baseline."""
    targets = installed_targets()
    start = "from exporter.cli import main; main()"
    command = [
        sys.executable, "-P", "-c", start, "export", "mine:Net", "--image-size", "16",
        "--target", ",".join(targets), "--precision", "fp16", "--samples", "8",
        "--rounds", "5", "--out", "out", "--quiet",
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=trap,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert [path.stem for path in trap.glob("*.ran")] == []
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fp16") >= len(targets)
    assert " ms " in done.stdout  # it was measured against the user's own module


def test_python_m_exporter_looks_into_the_working_directory_last(tmp_path: Path) -> None:
    for name in ("typer", "rich", "difflib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the working directory was run')")
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "models"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "resnet50" in done.stdout


@pytest.mark.parametrize("first", ["", "working directory", "program's folder"])
def test_a_child_gets_no_folder_of_the_parents_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    program = tmp_path / "programs" / "program.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(program), raising=False)
    folders = {"working directory": str(tmp_path), "program's folder": str(program.parent)}
    installed = [entry for entry in sys.path if entry]
    monkeypatch.setattr(sys, "path", [folders.get(first, first), *installed])
    assert import_path(own_modules=False) == installed
    last = [str(tmp_path.resolve()), str(program.parent.resolve())]
    assert import_path(own_modules=True) == [*installed, *last]


def test_a_child_can_import_this_package_wherever_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that is not installed is on the path as the working directory alone."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", ["", "/usr/lib/python"])
    assert import_path(own_modules=False) == [str(ROOT), "/usr/lib/python"]
