"""Whose processor time it was."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from exporter.measure.load import LoadWatch

SPIN = "import time; end = time.monotonic() + 30\nwhile time.monotonic() < end: pass"


def test_a_busy_process_is_another_unless_it_is_one_of_ours() -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as busy:
        try:
            _until_busy(busy.pid)
            watches = LoadWatch([]), LoadWatch([busy.pid])
            before = psutil.Process(busy.pid).cpu_times().user
            time.sleep(1.0)
            taken = psutil.Process(busy.pid).cpu_times().user - before
            as_other, as_ours = (watch.others() for watch in watches)
        finally:
            busy.kill()
    assert as_other is not None
    assert as_ours is not None
    # Whatever else runs here is in both of them.
    share = taken / psutil.cpu_count()
    assert as_other - as_ours == pytest.approx(share, abs=0.25 * share)
    assert 0.0 <= as_ours <= as_other <= 1.0


def test_a_process_that_died_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as busy:
        watch = LoadWatch([busy.pid])
        busy.kill()
    found = watch.others()
    assert found is None or 0.0 <= found <= 1.0


def _until_busy(pid: int) -> None:
    while psutil.Process(pid).cpu_times().user < 0.2:
        time.sleep(0.02)
