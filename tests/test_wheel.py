"""What is installed: a wheel with every file of the package, typed, and used as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = '''
from __future__ import annotations

import torch

import exporter
from exporter import Build, EngineRecord, Latency, Precision, Skipped, Validation


class Net(torch.nn.Module):
    """(N, 1, H, W) -> (N, 5); it has no module that another process could import it from."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.fc = torch.nn.Linear(8, 5)
        # Its decisions are clear ones: a network of random weights changes near ties in INT8.
        self.fc.bias.data = self.fc.bias + 10 * torch.arange(5.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(self.conv(x).relu().mean((2, 3)))
        return y


def speedup(engine: EngineRecord) -> float | None:
    latency: Latency | Skipped = engine.latency
    return latency.speedup.median if isinstance(latency, Latency) else None


build: Build = exporter.export(
    Net(),
    example=torch.zeros(1, 1, 12, 20),
    targets=["ort-cpu"],
    precisions=["fp32", Precision.INT8],
    samples=8,
    rounds=5,
    threads=1,
)
assert not build.failures, build.failures
for name, engine in build.items():
    assert speedup(engine) is not None, engine.latency
checked: Validation = build.validate(threads=1)
assert build.fastest is not None
print(*build, exporter.__file__, checked.failures)
'''
MISTAKES = """
import exporter

exporter.export("resnet50", precisions=[8])
exporter.export("resnet50", precison=["int8"])
build = exporter.open_build("build")
build.benchmark(rounds="5")
build.pack("bundle", sing="key.pem")
build["ort-cpu.int8"].latency.p50_ms
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building writes into the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "exporter", folder / "source" / "exporter", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    where = ["--wheel-dir", str(folder), str(folder / "source")]
    subprocess.run([sys.executable, "-m", "pip", *command, *where], check=True, cwd=folder)
    (made,) = folder.glob("*.whl")
    assert not (folder / "source" / "build").exists(), "that is where our own builds go"
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and beside it what is installed here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = folder / scripts / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([python, "-c", ask], text=True).strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "beside.pth").write_text(sysconfig.get_path("purelib"))
    return python


def mypy(python: Path, program: Path) -> subprocess.CompletedProcess[str]:
    """As somebody who uses the package checks a program; torch's types are read once."""
    cache = program.parent / "cache"
    options = ["--strict", "--no-error-summary", "--cache-dir", str(cache)]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--python-executable", python, program.name],
        cwd=program.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("exporter/")}
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "exporter").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == there
    assert "exporter/py.typed" in held


def test_a_program_is_checked_against_every_option(python: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    fine = mypy(python, tmp_path / "script.py")
    assert fine.returncode == 0, fine.stdout + fine.stderr
    wrong = mypy(python, tmp_path / "mistakes.py")
    found = [line.split(": ", 2) for line in wrong.stdout.splitlines() if ": error: " in line]
    lines = MISTAKES.splitlines()
    assert [lines[int(place.split(":")[1]) - 1] for place, *_ in found] == [
        line for line in lines if line.startswith(("exporter.", "build."))
    ] + [lines[-1]], wrong.stdout
    assert 'did you mean "precisions"' in wrong.stdout


def test_a_script_needs_no_guard(python: Path, tmp_path: Path) -> None:
    """What is started for it does not run it again, and gets its classes by value."""
    (tmp_path / "script.py").write_text(SCRIPT)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "script.py"], cwd=tmp_path, env=kept, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    fp32, int8, where, failures = done.stdout.split(" ", 3)
    assert (fp32, int8, failures.strip()) == ("ort-cpu.fp32", "ort-cpu.int8", "()")
    assert Path(where).is_relative_to(python.parents[1])
