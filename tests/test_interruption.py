"""Ctrl-C and SIGTERM on the command line: what is left, and what is said."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from exporter import pipeline
from exporter.cli import main
from tests.test_cli import ROOT, command


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_in_the_middle_exits_130_and_leaves_nothing(
    tmp_path: Path, how: signal.Signals
) -> None:
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    # A test run in the background ignores Ctrl-C, and so would its children.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = subprocess.Popen(
        command("export", "--target", "ort-cpu", "--out", "out", first=listen),
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not any(work.glob(".out.*/*/onnx/*")):  # the build has begun
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list(work.iterdir()) == []
    # PyTorch leaves a folder of its own there, empty.
    assert [p for p in temporary.rglob("*") if p.is_file() or p.match("exporter*")] == []


def test_an_interruption_says_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "measure_engines", stop)
    with pytest.raises(SystemExit) as raised:
        main(["export", "--target", "ort-cpu", "--precision", "fp32", "--out", str(tmp_path / "o")])
    assert raised.value.code == 130
    told = " ".join(capsys.readouterr().err.split())
    assert "error: interrupted; what was proved (ort-cpu.fp32) is kept in" in told
    assert "nothing half-written" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["o.interrupted"]
