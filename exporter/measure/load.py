"""What else the machine was doing while something was measured."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


class LoadWatch:
    """The processor time of the whole machine and of some processes, from now on."""

    def __init__(self, pids: Iterable[int]) -> None:
        """`pids` are processes whose time is not the others'; this one is added."""
        self._own = dict.fromkeys((psutil.Process(), *map(psutil.Process, pids)), 0.0)
        self._before = self._read()

    def others(self) -> float | None:
        """The share of the machine's processor time, 0 to 1, that other processes took since.

        On a virtual machine what its host took counts, too. None where no time has passed.
        """
        total, busy, own = (
            now - before for now, before in zip(self._read(), self._before, strict=True)
        )
        return min(1.0, max(0.0, (busy - own) / total)) if total > 0 else None

    def _read(self) -> tuple[float, float, float]:
        """Seconds: of all processors, of those busy, of our own processes."""
        times = psutil.cpu_times()._asdict()
        # Linux counts a guest's time with the user's, too.
        total = sum(seconds for name, seconds in times.items() if not name.startswith("guest"))
        for process in self._own:
            try:
                used = process.cpu_times()
            except psutil.Error:
                continue  # it died: what it took until it was read last is all that is known
            self._own[process] = used.user + used.system
        busy = total - times["idle"] - times.get("iowait", 0.0)
        return total, busy, sum(self._own.values())
