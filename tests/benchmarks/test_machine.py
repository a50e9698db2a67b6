"""Who else used the machine, and how much energy went by."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks import machine
from exporter.artifact import Skipped

SPIN = "import time; end = time.perf_counter() + 30\nwhile time.perf_counter() < end: pass"


def test_a_process_of_the_run_is_not_the_others_and_a_foreign_one_is() -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as spinning:
        try:
            process = psutil.Process(spinning.pid)
            foreign, own = machine.Watch(), machine.Watch()
            began, spun = time.perf_counter(), 0.0
            while spun < 0.5:  # seconds of its own; the machine may be busy with other things
                time.sleep(0.05)
                spun = sum(process.cpu_times()[:2])
            with_it = foreign.others()
            without = own.others([process])
            elapsed = (time.perf_counter() - began) * (psutil.cpu_count() or 1)
        finally:
            spinning.kill()
    # Whatever the others do, the difference is the process's own.
    assert 0.5 * spun / elapsed < with_it - without


def test_rapl_is_summed_over_the_packages(tmp_path: Path) -> None:
    for zone, microjoules in (("intel-rapl:0", 1_500_000), ("intel-rapl:1", 500_000)):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(f"{microjoules}\n")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of the first package: not counted twice
    meter = machine.find_meter(tmp_path)
    assert not isinstance(meter, Skipped)
    assert meter.read_j() == 2.0


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    absent = machine.find_meter(tmp_path)
    assert isinstance(absent, Skipped)
    assert "no RAPL" in absent.skipped


def test_a_snapshot_has_load_and_clock() -> None:
    found = machine.snapshot()
    assert len(found["load_average"]) == 3
    assert found["cpu_mhz"] is None or all(mhz >= 0 for mhz in found["cpu_mhz"])


def test_what_a_process_of_the_run_had_others_do_is_the_runs_own_work() -> None:
    """torch.compile starts a C++ compiler, which has ended long before the run does."""
    code = "import subprocess, sys\n" + (
        "subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 1: 0'])\n"
        "print('done', flush=True); input()"
    )
    watch = machine.Watch()
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"done\n"
            elapsed = (time.perf_counter() - began) * (psutil.cpu_count() or 1)
            difference = watch.others() - watch.others([psutil.Process(parent.pid)])
        finally:
            parent.kill()
    assert difference * elapsed > 0.8
