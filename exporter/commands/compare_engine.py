"""How one engine changed from one build to another: its speed, its error.

Milliseconds of two runs don't compare: shared machines drift by tens of percent from day to day.
Speedups do, since each is a ratio to the baseline timed within the same run. So an engine's change
is the ratio of its two speedups, old / new: the time it takes now, relative to then. Its interval
follows from the two speedups' own by MOVER on logarithms (Zou and Donner, Statistics in Medicine
27(10), 2008): with l and u the ends of an interval around m,

    ln(old / new) - sqrt((m_old - l_old)^2 + (u_new - m_new)^2)    to
    ln(old / new) + sqrt((u_old - m_old)^2 + (m_new - l_new)^2)

An engine is slower where this whole interval lies above 1 and the ratio itself above SAME: the same
engine measured twice differs by that much. What the interval does not tell apart is never called
slower or faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from exporter.report.flat import EngineRow, TimingRow
from exporter.targets import device_of

SAME: Final = 1.02
"""Two runs of one engine agree to this ratio."""
ROUNDING: Final = 8 * 2.0**-23
"""Relative errors below this are float32's own rounding; it moves with the order of additions."""
LEAST: Final = 1e-9
MOST: Final = 1e9
"""Bounds of a speedup that was measured; what is beyond them was edited, or divided by zero."""
NOTICED_GROWTH: Final = 0.1
"""Growth of an error that is called less accurate where no limit was given."""


class Change(StrEnum):
    SLOWER = "slower"
    FASTER = "faster"
    LESS_ACCURATE = "less accurate"
    MORE_ACCURATE = "more accurate"
    SAME = "same"


@dataclass(frozen=True)
class SpeedChange:
    """One engine at one batch size."""

    engine: str
    batch: int
    old_p50_ms: float
    new_p50_ms: float
    old_speedup: float
    new_speedup: float
    relative_time: float
    """Old speedup / new speedup, each over the baseline of its own run: more than 1 is slower."""
    ci95: tuple[float, float]
    change: Change
    stable: bool
    """Both measurements were."""


@dataclass(frozen=True)
class ErrorChange:
    """One engine's error against its reference."""

    engine: str
    old_rel_l2: float
    new_rel_l2: float
    growth: float
    """new / old - 1, both at least ROUNDING."""
    old_top1: float | None
    new_top1: float | None
    change: Change


def speed_changes(
    old: EngineRow, new: EngineRow
) -> tuple[list[SpeedChange], list[tuple[str, str]]]:
    """Each batch size that both sides measured alike, and reasons for the others."""
    before, after = ({timing.batch: timing for timing in side.latencies} for side in (old, new))
    changes, reasons = [], []
    for batch in sorted({*before, *after}):
        change = _speed_change(old, new, before.get(batch), after.get(batch))
        if isinstance(change, SpeedChange):
            changes.append(change)
        else:
            reasons.append((old.id, f"batch {batch}: {change}"))
    if not before and not after:
        reasons.append((old.id, f"no timings ({new.latency_skipped or old.latency_skipped})"))
    return changes, reasons


def _speed_change(
    old: EngineRow, new: EngineRow, then: TimingRow | None, now: TimingRow | None
) -> SpeedChange | str:
    """The change at one batch size, or why there is none to tell."""
    for side, row, timing in (("OLD", old, then), ("NEW", new, now)):
        if timing is None:
            return f"not measured in {side} ({row.latency_skipped or 'it was not asked for'})"
        own = device_of(row.id.rpartition(".")[0])
        if own is not None and timing.device is not own:
            return (
                f"{side} compared it with {timing.baseline} on the {timing.device}, and it runs on "
                f"the {own}; measure that build again"
            )
        low, middle, high = timing.speedup_low, timing.speedup, timing.speedup_high
        if not LEAST <= low <= middle <= high <= MOST:
            return f"{side} has no speedup inside its interval ({middle}, {low} to {high})"
    assert then is not None
    assert now is not None
    differ = differences(
        *({k: getattr(t, k) for k in ("threads", "device", "baseline")} for t in (then, now))
    )
    if differ:
        return f"measured differently ({differ})"
    ratio, low, high = relative_time(_speedup(then), _speedup(now))
    change = Change.SAME
    stable = then.stable and now.stable
    # An interval says nothing of a run that did not settle: such a timing proves no change.
    if stable and low > 1 and ratio > SAME:
        change = Change.SLOWER
    elif stable and high < 1 and ratio < 1 / SAME:
        change = Change.FASTER
    return SpeedChange(
        engine=old.id,
        batch=now.batch,
        old_p50_ms=then.p50_ms,
        new_p50_ms=now.p50_ms,
        old_speedup=then.speedup,
        new_speedup=now.speedup,
        relative_time=ratio,
        ci95=(low, high),
        change=change,
        stable=stable,
    )


def _speedup(timing: TimingRow) -> tuple[float, float, float]:
    return timing.speedup, timing.speedup_low, timing.speedup_high


def relative_time(
    old: tuple[float, float, float], new: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Ratio old / new of two speedups (each median, low, high) and its 95 % interval (MOVER)."""
    (m_old, l_old, u_old), (m_new, l_new, u_new) = (
        tuple(math.log(value) for value in speedup) for speedup in (old, new)
    )
    centre = m_old - m_new
    low = centre - math.hypot(m_old - l_old, u_new - m_new)
    high = centre + math.hypot(u_old - m_old, m_new - l_new)
    return math.exp(centre), math.exp(low), math.exp(high)


def error_change(old: EngineRow, new: EngineRow, limit: float | None) -> ErrorChange | str:
    """The change, or why there is none to tell."""
    for side, row in (("OLD", old), ("NEW", new)):
        if row.rel_l2 is None or not math.isfinite(row.rel_l2):
            return f"no error in {side} ({row.parity_skipped or f'rel_l2 is {row.rel_l2}'})"
    then, now = old.rel_l2 or 0.0, new.rel_l2 or 0.0
    growth = max(now, ROUNDING) / max(then, ROUNDING) - 1
    noticed = NOTICED_GROWTH if limit is None else limit
    fell = old.top1 is not None and new.top1 is not None and new.top1 < old.top1
    change = Change.SAME
    if growth > noticed or fell:
        change = Change.LESS_ACCURATE
    elif growth < -noticed:
        change = Change.MORE_ACCURATE
    return ErrorChange(old.id, then, now, growth, old.top1, new.top1, change)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Which keys of two flat mappings differ, in words; empty: none."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {_words(old.get(key))} / {_words(new.get(key))}" for key in keys)


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
