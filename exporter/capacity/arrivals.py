"""When requests arrive at one of several machines: at random, in bursts, or as they once did.

A machine gets each of the service's requests with the same chance, whatever it is doing: so does a
load balancer spread them that knows nothing of queues.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.errors import InputError

Floats = npt.NDArray[np.float64]
Arrivals = Callable[[float, int, np.random.Generator], Floats]
"""(requests a second at the machine, how many, generator) -> their times in seconds, in order."""

BURST: Final = 3.0
"""The rate in a burst, in mean rates."""
BURST_SHARE: Final = 0.2
"""The part of the time that is bursts; between them the rate is what keeps the mean."""
BURST_S: Final = 1.0
"""How long a burst is in the mean; its length is exponential, as the pauses' is."""
_COLUMN: Final = "time_s"


def poisson(rate: float, count: int, random: np.random.Generator) -> Floats:
    """Each request by itself: what many clients who know nothing of each other make."""
    times: Floats = np.cumsum(random.exponential(1 / rate, count))
    return times


def bursts(rate: float, count: int, random: np.random.Generator) -> Floats:
    """BURST times the mean rate for BURST_SHARE of the time: a Poisson process with two states."""
    quiet = (1 - BURST_SHARE * BURST) / (1 - BURST_SHARE)
    pause_s = BURST_S * (1 - BURST_SHARE) / BURST_SHARE
    # Enough phases that the requests of almost every draw suffice; the rest is drawn again.
    phases = 16 + int(2 * count / rate / (BURST_S + pause_s))
    lengths = random.exponential([[pause_s, BURST_S]], (phases, 2)).ravel()
    rates = np.tile([quiet * rate, BURST * rate], phases)
    # In a clock that runs as fast as requests come, they are a plain Poisson process.
    expected = np.concatenate([[0.0], np.cumsum(lengths * rates)])
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    events = np.cumsum(random.exponential(1.0, count))
    if events[-1] > expected[-1]:
        return bursts(rate, count, random)
    times: Floats = np.interp(events, expected, ends)
    return times


def traced(times: Floats) -> Arrivals:
    """A trace of the whole service's arrivals, each kept with the chance that gives the rate.

    What comes together stays together. A machine's day begins at any place of the trace, and the
    trace begins again where it ends. A rate beyond the trace's own is as many services at once,
    each at another place of it.
    """
    span = float(times[-1] - times[0]) * len(times) / (len(times) - 1)

    def arrivals(rate: float, count: int, random: np.random.Generator) -> Floats:
        share = rate * span / len(times)
        copies = max(1, int(np.ceil(share)))
        begin = random.random()
        parts: list[Floats] = []
        turn = 0
        while sum(map(len, parts)) < count:
            for copy in range(copies):
                moved = (times - times[0] + span * (begin + copy / copies)) % span
                parts.append(moved[random.random(len(times)) < share / copies] + turn * span)
            turn += 1
        return np.sort(np.concatenate(parts))[:count]

    return arrivals


def read_trace(path: Path) -> Floats:
    """The times in seconds at which requests arrived: a CSV's column `time_s`, or its only one.

    Raises:
        InputError: it cannot be read, holds no two times, or goes back in time.
    """
    try:
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read --arrivals {path}: {reason}") from None
    head = [cell.strip() for cell in rows[0]] if rows else []
    named = not _is_number(head[0]) if head else False
    if named and _COLUMN not in head and len(head) > 1:
        raise InputError(
            f"--arrivals {path} has the columns {', '.join(head)}; name the one with the seconds "
            f"at which requests arrived {_COLUMN}"
        )
    column = head.index(_COLUMN) if _COLUMN in head else 0
    times = [_time(path, number, row, column) for number, row in enumerate(rows[named:], 1 + named)]
    if len(times) < 2 or times[-1] == times[0]:
        raise InputError(f"--arrivals {path} holds {len(times)} times; give two at least, apart")
    for number, (before, after) in enumerate(pairwise(times), 2 + named):
        if after < before:
            raise InputError(
                f"--arrivals {path}: line {number} is {before - after:.6g} s before the line "
                "above; give the times at which requests arrived, in order"
            )
    return np.array(times)


def _time(path: Path, number: int, row: list[str], column: int) -> float:
    if column >= len(row) or not _is_number(row[column]):
        given: Any = row[column] if column < len(row) else ""
        raise InputError(f"--arrivals {path}: line {number} holds {given!r}, expected seconds")
    return float(row[column])


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
