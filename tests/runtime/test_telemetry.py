"""Libraries are imported without a word of it to their makers, unless the user said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import exporter
from exporter.runtime.telemetry import VARIABLES
from tests.packed import digits_bundle

REPOSITORY = Path(exporter.__file__).parent.parent
# OpenVINO keeps quiet by itself where it finds a job of continuous integration.
IGNORED = {*VARIABLES, "CI", "TF_BUILD", "JENKINS_URL", "XDG_CACHE_HOME"}
PROGRAMS = {
    "load": "import sys, time; from exporter.runtime import load; load(sys.argv[1]); time.sleep(1)",
    "target": "import exporter.targets.ort.cpu, exporter.targets.openvino",
    "doctor": "from exporter.commands.doctor import diagnose; diagnose()",
    "a child of ours": "import exporter, subprocess, sys; subprocess.run([sys.executable, '-c', "
    "'import onnxruntime, time; time.sleep(1)'], check=True)",
}


def run(folder: Path, program: str, *arguments: str, **variables: str) -> str:
    """What a program prints that has a home of its own and none of the variables."""
    kept = {name: value for name, value in os.environ.items() if name not in IGNORED}
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    for place in own.values():
        Path(place).mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env={**kept, **own, "PYTHONPATH": str(REPOSITORY), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_written_at_home_and_nothing_can_be_sent(tmp_path: Path, name: str) -> None:
    told = "import sys; print(sys.modules['openvino_telemetry'])"
    assert run(tmp_path, f"{PROGRAMS[name]}\n{told}", str(digits_bundle())) == "None\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    told = "import exporter, os; print([os.environ[name] for name in sorted(sys.argv[1:])])"
    asked = f"import sys; {told}"
    assert run(tmp_path, asked, *VARIABLES) == "['1', 'true', '1', '0']\n"
    given = dict.fromkeys(VARIABLES, "mine")
    assert run(tmp_path, asked, *VARIABLES, **given) == "['mine', 'mine', 'mine', 'mine']\n"


@pytest.mark.skipif(sys.platform == "win32", reason="the file lies elsewhere there")
@pytest.mark.parametrize(("consent", "blocked"), [("1", False), ("0", True), ("\udcff", True)])
def test_who_opted_in_to_openvinos_telemetry_keeps_it(
    tmp_path: Path, consent: str, blocked: bool
) -> None:
    file = tmp_path / "home" / "intel" / "openvino_telemetry"
    file.parent.mkdir(parents=True)
    file.write_text(consent, errors="surrogateescape")
    asked = "import exporter, sys; print('openvino_telemetry' in sys.modules)"
    assert run(tmp_path, asked) == f"{blocked}\n"


def test_one_that_is_imported_already_is_left_alone(tmp_path: Path) -> None:
    asked = "import sys; sys.modules['openvino_telemetry'] = sys; import exporter"
    assert run(tmp_path, f"{asked}; print(sys.modules['openvino_telemetry'] is sys)") == "True\n"
