"""Which engine to use and why, what else is worth having, and where this build loses.

Rules over the manifest's own figures; nothing is measured or judged here that is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.artifact import Precision, Verdict
from exporter.builds.records import Manifest
from exporter.measure.timing import Speedup
from exporter.prove.certificate import Accuracy, Parity, Receipt, Scope
from exporter.prove.limits import AT_LEAST
from exporter.report.engines import EngineView
from exporter.report.traced import (
    Figure,
    Parts,
    Traced,
    count,
    decibels,
    error,
    is_skipped,
    megabytes,
    milliseconds,
    percent,
    times,
)

VERDICTS: Final = (Verdict.FUSED, Verdict.PARTIAL, Verdict.UNVERIFIED)
"""The best first."""
PRECISIONS: Final = tuple(Precision)
"""The most precise first."""


@dataclass(frozen=True)
class Remark:
    """What is to be said of one engine, or of several alike."""

    engines: tuple[EngineView, ...]
    sentences: tuple[Parts, ...]


@dataclass(frozen=True)
class Choice:
    """An engine that is the best in some respect."""

    need: str
    engine: EngineView
    why: Parts


@dataclass(frozen=True)
class Advice:
    """The first screen in words."""

    best: EngineView | None
    """The fastest engine that passed every gate."""
    gains: bool
    """It is not slower than the baseline, as far as its interval tells."""
    reasons: tuple[Parts, ...]
    choices: tuple[Choice, ...]
    losses: tuple[Remark, ...]


def advise(manifest: Manifest, engines: Sequence[EngineView]) -> Advice:
    """The advice of a whole manifest."""
    best = next((e for e in engines if e.record is manifest.fastest), None)
    return Advice(
        best=best,
        gains=best is not None and _interval(best)[1] >= 1,
        reasons=() if best is None else tuple(_reasons(best, engines)),
        choices=tuple(_choices(best, engines)),
        losses=tuple(_losses(manifest, engines)),
    )


_LIMITED: Final[Mapping[str, tuple[str, str, Callable[[Traced[float]], Figure]]]] = {
    "sqnr_db": ("SQNR", "sqnr_db", decibels),
    "top1_agreement": ("95 % bound of top-1 agreement", "agreement_at_most", percent),
    "top1_drop": ("95 % bound of the top-1 lost", "drop_at_least", percent),
    "rel_l2": ("relative error", "rel_l2", error),
    "rel_l2_float64": ("relative error against float64", "rel_l2_float64", error),
    "batch_max_abs": ("batch 1 against batches", "batch_max_abs", error),
}
"""The limits of a parity certificate: in words, which figure is held against each, its form."""


def limits(parity: Traced[Parity]) -> list[Parts]:
    """Each limit of a parity certificate: "SQNR ≥ 20.0 dB"."""
    parts: list[Parts] = []
    for key in parity.raw.limits:
        name, _, form = _LIMITED.get(key, (key, key, error))
        parts.append((f"{name} {_relation(key)} ", form(parity.limits[key])))
    return parts


def _relation(limit: str) -> str:
    return "\N{GREATER-THAN OR EQUAL TO}" if limit in AT_LEAST else "\N{LESS-THAN OR EQUAL TO}"


def _reasons(best: EngineView, engines: Sequence[EngineView]) -> Iterable[Parts]:
    entry, record = best.entry, best.record
    assert best.latency is not None
    every = [e for e in engines if e.latency and e.record.passed]
    candidates = [e for e in every if e.latency and e.latency.device is best.latency.device]
    if len(candidates) == 1:
        yield ("It is the only engine here that was measured and passed every gate.",)
    else:
        yield (f"It is the fastest of the {len(candidates)} engines here that passed every gate.",)
    elsewhere = [e for e in every if e not in candidates and e.latency]
    if elsewhere:
        other = min(elsewhere, key=lambda e: e.latency.p50_ms if e.latency else math.inf)
        yield (
            f"On another device {other.id} takes ", milliseconds(other.entry.latency.p50_ms),
            ", and it ", milliseconds(entry.latency.p50_ms), ", transfers included.",
        )  # fmt: skip
    for rival in candidates:
        if rival is not best and _interval(rival)[1] >= _interval(best)[0]:
            interval = _interval_words(rival.entry.latency.speedup)
            yield (f"{rival.id} may be as fast: its interval ", *interval, " overlaps.")
    if not best.latency.stable:
        yield ("Its timing is unstable: measure again on an idle machine before you rely on it.",)
    yield _parity(entry.parity)
    if record.accuracy:
        yield _top1(entry.accuracy)
    yield _receipt(entry.receipt)


def _parity(parity: Traced[Parity]) -> Parts:
    words: list[str | Figure] = ["Parity passed on ", count(parity.samples), " inputs"]
    joint = ": "
    for key, (name, held, form) in _LIMITED.items():
        figure: Traced[float] = getattr(parity, held)
        if key in parity.raw.limits and not is_skipped(figure):
            limit = form(parity.limits[key])
            words += [f"{joint}{name} ", form(figure), f" (limit {_relation(key)} ", limit, ")"]
            joint = "; "
    if parity.raw.output:
        words.append(f", of {parity.raw.output}, the worst of its outputs")
    return [*words, "."]


def _top1(accuracy: Traced[Accuracy]) -> Parts:
    return (
        "Top-1 ", percent(accuracy.top1), " on ", count(accuracy.samples),
        f" labelled inputs ({accuracy.raw.dataset}), the reference's is ",
        percent(accuracy.top1_reference), ".",
    )  # fmt: skip


def _receipt(receipt: Traced[Receipt]) -> Parts:
    words: list[str | Figure] = [f"Receipt {receipt.raw.verdict}: "]
    if receipt.raw.residual_adds:
        fused, adds = count(receipt.residual_adds_fused), count(receipt.residual_adds)
        words += [fused, "/", adds, " residual adds fused"]
        words += [*_unfusable(receipt.residual_adds_unfusable), ", "]
    if receipt.raw.convs_quantized:
        words += [count(receipt.convs_quantized), "/", count(receipt.convs)]
        words += [" convolutions in INT8, "]
    for dtype, _ in receipt.raw.narrow_convs:
        words += [count(receipt.convs_by_type[dtype]), "/", count(receipt.convs)]
        words += [f" convolutions in {dtype.upper()}, "]
    words += [count(receipt.float_ops), " operators left over"]
    return [*words, *_unfusable(receipt.float_ops_unfusable), "."]


def _unfusable(number: Traced[int]) -> Parts:
    return (" (", count(number), " unfusable)") if number.raw else ()


def _choices(best: EngineView | None, engines: Sequence[EngineView]) -> Iterable[Choice]:
    why: Parts
    faster = [e for e in engines if e.record.passed and _interval(e)[0] > 1]
    exact = min(faster, key=_error, default=None)
    if exact is not None and exact is not best:
        why = (
            "relative error ", error(exact.entry.parity.rel_l2), ", ",
            times(exact.entry.latency.speedup.median), " as fast as its baseline",
        )  # fmt: skip
        yield Choice("Closest to the reference", exact, why)
    small = min(faster, key=lambda e: e.record.bytes, default=None)
    if small is not None and small is not best:
        why = (megabytes(small.entry.bytes), ", ", milliseconds(small.entry.latency.p50_ms))
        yield Choice("Smallest file", small, why)
    elsewhere = [
        e
        for e in engines
        if e.record.passed and not e.latency and e.parity and e.parity.scope is Scope.GRAPH
    ]
    if elsewhere:
        plan = min(elsewhere, key=_rank_unmeasured)
        why = (
            f"built but not run here; receipt {plan.record.receipt.verdict}, "
            "parity of its graph passed",
        )
        yield Choice("Where its hardware is", plan, why)


def _error(engine: EngineView) -> float:
    """What is not a number is as far from the reference as can be."""
    found = engine.parity.rel_l2 if engine.parity else math.inf
    return found if math.isfinite(found) else math.inf


def _rank_unmeasured(engine: EngineView) -> tuple[int, float, float]:
    """Best receipt first, then the least predicted time, then the smallest file."""
    record = engine.record
    predicted = [prediction.time_ms for prediction in record.predicted]
    mean = sum(predicted) / len(predicted) if predicted else 0.0
    return VERDICTS.index(record.receipt.verdict), mean, record.bytes


def _losses(manifest: Manifest, engines: Sequence[EngineView]) -> Iterable[Remark]:
    for engine in engines:
        sentences = [*_timing_losses(manifest, engine, engines), *_quality_losses(engine)]
        if sentences:
            yield Remark((engine,), tuple(sentences))
    yield from _not_measured(engines)


def _timing_losses(
    manifest: Manifest, engine: EngineView, engines: Sequence[EngineView]
) -> Iterable[Parts]:
    latency = engine.entry.latency
    if not engine.latency:
        return
    baseline = manifest.baseline_on(engine.latency.device)
    low, high = _interval(engine)
    figures = (times(latency.speedup.median), " (", *_interval_words(latency.speedup), ")")
    if high < 1:
        yield (f"slower than {baseline}: ", *figures)
    elif not low > 1:
        yield (f"within its interval no faster than {baseline}: ", *figures)
    wider = _as_fast_and_wider(engine, engines)
    if wider is not None:
        yield (
            f"no faster than {wider.id}, which is more precise: ",
            milliseconds(latency.p50_ms), " against ", milliseconds(wider.entry.latency.p50_ms),
        )  # fmt: skip
    if engine.latency.throttled:
        yield (f"the GPU's clock was held down: {', '.join(engine.latency.throttled)}",)
    elif not engine.latency.stable:
        yield ("timing unstable: something else was running, or the engine is erratic",)


def _as_fast_and_wider(engine: EngineView, engines: Sequence[EngineView]) -> EngineView | None:
    """The engine of the same target and a wider precision that is at least as fast, if any."""
    wider = PRECISIONS[: PRECISIONS.index(engine.record.precision)]
    for other in engines:
        like = other.record.target == engine.record.target and other.record.precision in wider
        if like and other.record.passed and _speedup(other) >= _speedup(engine):
            return other
    return None


def _quality_losses(engine: EngineView) -> Iterable[Parts]:
    record = engine.record
    for failure in record.failures:
        yield (f"failed: {failure}",)
    if record.rejected:
        yield ("rejected: its file is kept under a name that is no release",)
    gated = any(failure.startswith("receipt:") for failure in record.failures)
    if record.receipt.verdict is not Verdict.FUSED and not gated:
        reason = f": {record.receipt.reason}" if record.receipt.reason else ""
        yield (f"receipt {record.receipt.verdict}{reason}",)
    if is_skipped(engine.entry.parity):
        yield (f"parity not checked: {engine.entry.parity.skipped}",)
    if record.accuracy and record.accuracy.top1 < record.accuracy.top1_reference:
        yield (
            "top-1 ", percent(engine.entry.accuracy.top1), ", the reference's is ",
            percent(engine.entry.accuracy.top1_reference),
        )  # fmt: skip


def _not_measured(engines: Sequence[EngineView]) -> Iterable[Remark]:
    reasons: dict[str, list[EngineView]] = {}
    for engine in engines:
        if not engine.latency and not engine.record.rejected:
            reasons.setdefault(str(engine.entry.latency.skipped), []).append(engine)
    for reason, alike in reasons.items():
        yield Remark(tuple(alike), ((f"not measured: {reason}",),))


def _interval_words(speedup: Traced[Speedup]) -> Parts:
    low, high = speedup.ci95
    return (times(low), " to ", times(high))


def _speedup(engine: EngineView) -> float:
    """nan, which is more and less than nothing, where it was not measured."""
    return engine.latency.speedup.median if engine.latency else math.nan


def _interval(engine: EngineView) -> tuple[float, float]:
    """Of the speedup; as `_speedup`."""
    return engine.latency.speedup.ci95 if engine.latency else (math.nan, math.nan)
