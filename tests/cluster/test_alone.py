"""One at a time on a machine, across processes; a process that is killed lets go."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from exporter.cluster import alone
from exporter.cluster.alone import alone_on_machine
from tests.test_isolation import ROOT

HOLD = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from exporter.cluster.alone import alone_on_machine
with alone_on_machine():
    print("mine", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def test_the_next_one_waits_until_the_first_is_gone(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    import fcntl

    assert holder.stdout is not None
    assert holder.stdout.readline() == "mine\n"
    with (tmp_path / alone.LOCK).open() as stream:
        with pytest.raises(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.kill()
        holder.communicate()
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_fails_inside_is_raised_and_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(2):  # the second would wait for ever
        with pytest.raises(OSError, match="full"), alone_on_machine():
            raise OSError("full")


def test_without_a_folder_for_the_lock_there_is_nobody_to_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with alone_on_machine():
        pass
