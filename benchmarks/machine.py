"""The machine around a run: its load, its clock, its energy meter, and who else used it.

A load average lags by a minute and counts our own work. What tells is the CPU time that processes
other than the run's own took between its beginning and its end, as a part of all there was; time
that a hypervisor gave to other guests ("steal") counts as taken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from exporter.artifact import Skipped

BUSY: Final = 0.03
"""A machine of which others took more than this part is called busy."""
_POWERCAP: Final = Path("/sys/class/powercap")


def snapshot() -> dict[str, Any]:
    """Load average and the clock of each CPU in MHz, as the system tells them now."""
    clocks = psutil.cpu_freq(percpu=True) or []
    return {
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "cpu_mhz": [round(clock.current) for clock in clocks] or None,
    }


class Watch:
    """What part of the machine others take, from its making to `others`."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._busy = _busy_s()
        self._own = _seconds(psutil.Process())
        self._ended = 0.0

    def ended(self, process: psutil.Process) -> None:
        """To be called just before a process of the run is ended: its CPU time is ours."""
        self._ended += _seconds(process)

    def others(self, running: Iterable[psutil.Process] = ()) -> float:
        """The part of all CPU time that others took so far, 0 to 1."""
        elapsed = (time.perf_counter() - self._begin) * (os.cpu_count() or 1)
        own = _seconds(psutil.Process()) - self._own + self._ended + sum(map(_seconds, running))
        return max(0.0, (_busy_s() - self._busy - own) / elapsed)


def _seconds(process: psutil.Process) -> float:
    """CPU seconds of a process, and, unless it is this one, of those that it started.

    This process's own children are counted one by one, those that have ended when they did.
    """
    times = process.cpu_times()
    own = float(times.user + times.system)
    if process.pid == os.getpid():
        return own
    waited_for = float(times.children_user + times.children_system)
    return own + waited_for + sum(map(_seconds, process.children()))


def _busy_s() -> float:
    times = psutil.cpu_times()._asdict()
    idle = times["idle"] + times.get("iowait", 0.0)
    # Linux counts guests' time in user time as well.
    guests = times.get("guest", 0.0) + times.get("guest_nice", 0.0)
    return float(sum(times.values()) - idle - guests)


@dataclass(frozen=True)
class Rapl:
    """Intel's and AMD's counters of the CPU packages, in Linux's powercap tree."""

    zones: tuple[Path, ...]

    def read_j(self) -> float:
        """Joules since some moment; only differences mean something, and none below zero does."""
        return sum(int((zone / "energy_uj").read_text()) for zone in self.zones) / 1e6


def find_meter(powercap: Path = _POWERCAP) -> Rapl | Skipped:
    """RAPL where its counters can be read, else why there is no energy to tell.

    Every engine of the suite computes on the CPU: a GPU's counter would tell of an idle device.
    """
    zones = tuple(sorted(powercap.glob("intel-rapl:[0-9]"))) if powercap.is_dir() else ()
    if not zones:
        return Skipped("this machine offers no RAPL counters (/sys/class/powercap)")
    meter = Rapl(zones)
    try:
        meter.read_j()
    except PermissionError:
        return Skipped("RAPL's counters can be read by root alone on this machine")
    except OSError as error:
        return Skipped(f"RAPL's counters cannot be read: {error.strerror}")
    return meter
