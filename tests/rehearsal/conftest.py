"""Where the rehearsal's packages are, and programs that run on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rehearsal import stand_ins

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-rehearsal"
CONTRACT = ENVIRONMENT / "contract"
HERE = Path(sys.prefix) == ENVIRONMENT

# Its parameters are read from the packages themselves.
collect_ignore = [] if HERE else ["test_loader.py"]


@pytest.fixture(scope="session", autouse=True)
def in_its_environment() -> None:
    """These tests mean something where `make rehearse-gpu` has installed the packages."""
    assert HERE, "run them with `make rehearse-gpu`"


@dataclass(frozen=True)
class Ran:
    """What became of a program."""

    code: int
    out: str
    err: str


def run(*arguments: str, **variables: str) -> Ran:
    """A program of this environment's Python, with these variables besides its own."""
    known = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    paths = [variables.pop("PYTHONPATH", ""), str(ROOT)]
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**known, **variables, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def with_driver(folder: Path) -> Mapping[str, str]:
    """The variables of a machine whose driver lies in the folder."""
    return {
        "LD_LIBRARY_PATH": str(folder),
        "PATH": os.pathsep.join([str(folder), os.environ["PATH"]]),
    }


@pytest.fixture(scope="session")
def claimed_gpu(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A machine whose driver claims a GPU, and fails whatever is asked of it."""
    folder = tmp_path_factory.mktemp("driver")
    return with_driver(stand_ins.driver(folder, stand_ins.ONE_GPU))


@pytest.fixture(scope="session")
def no_gpu(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A machine with a driver and no GPU for this process."""
    folder = tmp_path_factory.mktemp("driver")
    return with_driver(stand_ins.driver(folder, stand_ins.NO_GPU))
