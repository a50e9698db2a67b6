"""Which engine to use and why, what else is worth having, and where this build loses.

Rules over the manifest's own figures; nothing is measured or judged here that is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.artifact import Verdict
from exporter.builds.manifest import from_json
from exporter.prove.limits import AT_LEAST
from exporter.report.engines import PRECISIONS, EngineView
from exporter.report.traced import (
    Figure,
    Parts,
    Traced,
    count,
    decibels,
    error,
    megabytes,
    milliseconds,
    number,
    percent,
    times,
)

VERDICTS = (Verdict.FUSED, Verdict.PARTIAL, Verdict.UNVERIFIED)


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


def advise(manifest: Traced, engines: Sequence[EngineView]) -> Advice:
    """The advice of a whole manifest."""
    chosen = _fastest(manifest.raw)
    best = next((e for e in engines if e.id == chosen), None)
    return Advice(
        best=best,
        gains=best is not None and _high(best) >= 1,
        reasons=() if best is None else tuple(_reasons(best, engines)),
        choices=tuple(_choices(best, engines)),
        losses=tuple(_losses(engines)),
    )


def baseline_name(latency: Traced) -> str:
    """What the speedups are against, in words."""
    known = {
        "torch-eager": "eager PyTorch",
        "onnxruntime-as-given": "the given file in ONNX Runtime, optimizations off",
    }
    raw = str(latency["baseline"].raw)
    return known.get(raw, raw)


_LIMITED: Mapping[str, tuple[str, Callable[[Traced], Figure]]] = {
    "sqnr_db": ("SQNR", decibels),
    "top1_agreement": ("top-1 agreement", percent),
    "rel_l2": ("relative error", error),
    "rel_l2_float64": ("relative error against float64", error),
}


def limits(parity: Traced) -> list[Parts]:
    """Each limit of a parity certificate: "SQNR ≥ 20.0 dB"."""
    parts: list[Parts] = []
    for key in parity["limits"].raw:
        name, form = _LIMITED.get(key, (key, error))
        parts.append((f"{name} {_relation(key)} ", form(parity["limits"][key])))
    return parts


def _relation(limit: str) -> str:
    return "\N{GREATER-THAN OR EQUAL TO}" if limit in AT_LEAST else "\N{LESS-THAN OR EQUAL TO}"


def _reasons(best: EngineView, engines: Sequence[EngineView]) -> Iterable[Parts]:
    entry = best.entry
    measured = [e for e in engines if e.measured and e.passed]
    rivals = [e for e in measured if e is not best and _high(e) >= _low(best)]
    if len(measured) == 1:
        yield ("It is the only engine here that was measured and passed every gate.",)
    else:
        yield (f"It is the fastest of the {len(measured)} engines here that passed every gate.",)
    for rival in rivals:
        interval = _interval(rival.entry["latency"]["speedup"])
        yield (f"{rival.id} may be as fast: its interval ", *interval, " overlaps.")
    if not entry["latency"]["stable"]:
        yield ("Its timing is unstable: measure again on an idle machine before you rely on it.",)
    yield _parity(entry["parity"])
    if entry["accuracy"]:
        yield _top1(entry["accuracy"])
    yield _receipt(entry["receipt"])


def _parity(parity: Traced) -> Parts:
    words: list[str | Figure] = ["Parity passed on ", count(parity["samples"]), " inputs:"]
    for i, key in enumerate(parity["limits"].raw):
        name, form = _LIMITED.get(key, (key, error))
        words += ["; " if i else " ", f"{name} ", form(parity[key])]
        words += [f" (limit {_relation(key)} ", form(parity["limits"][key]), ")"]
    return [*words, "."]


def _top1(accuracy: Traced) -> Parts:
    return (
        "Top-1 ", percent(accuracy["top1"]), " on ", count(accuracy["samples"]),
        f" labelled inputs ({accuracy['dataset']}), the reference's is ",
        percent(accuracy["top1_reference"]), ".",
    )  # fmt: skip


def _receipt(receipt: Traced) -> Parts:
    words: list[str | Figure] = [f"Receipt {receipt['verdict']}: "]
    if receipt["residual_adds"]:
        fused, adds = count(receipt["residual_adds_fused"]), count(receipt["residual_adds"])
        words += [fused, "/", adds, " residual adds fused, "]
    if receipt["convs_quantized"]:
        words += [count(receipt["convs_quantized"]), "/", count(receipt["convs"])]
        words += [" convolutions in INT8, "]
    words += [count(receipt["float_ops"]), " operators left over."]
    return words


def _choices(best: EngineView | None, engines: Sequence[EngineView]) -> Iterable[Choice]:
    why: Parts
    faster = [e for e in engines if e.measured and e.passed and _low(e) > 1]
    exact = min(faster, key=lambda e: number(e.entry["parity"]["rel_l2"]) or 0.0, default=None)
    if exact is not None and exact is not best:
        why = (
            "relative error ", error(exact.entry["parity"]["rel_l2"]), ", ",
            times(exact.entry["latency"]["speedup"]["median"]),
            " as fast as the baseline",
        )  # fmt: skip
        yield Choice("Closest to the reference", exact, why)
    small = min(faster, key=lambda e: float(e.entry["bytes"].raw), default=None)
    if small is not None and small is not best:
        why = (
            megabytes(small.entry["bytes"]), ", ", milliseconds(small.entry["latency"]["p50_ms"]),
        )  # fmt: skip
        yield Choice("Smallest file", small, why)
    away = [
        e
        for e in engines
        if e.passed and not e.measured and e.entry["parity"]["scope"].raw == "graph"
    ]
    if away:
        plan = min(away, key=_rank_unmeasured)
        why = (
            f"built but not run here; receipt {plan.entry['receipt']['verdict']}, "
            "parity of its graph passed",
        )
        yield Choice("Where its hardware is", plan, why)


def _rank_unmeasured(engine: EngineView) -> tuple[int, float, float]:
    """Best receipt first, then the least predicted time, then the smallest file."""
    predicted = [float(p["time_ms"].raw) for p in engine.entry["predicted"]]
    verdict = VERDICTS.index(Verdict(engine.entry["receipt"]["verdict"].raw))
    mean = sum(predicted) / len(predicted) if predicted else 0.0
    return verdict, mean, float(engine.entry["bytes"].raw)


def _losses(engines: Sequence[EngineView]) -> Iterable[Remark]:
    for engine in engines:
        sentences = [*_timing_losses(engine, engines), *_quality_losses(engine)]
        if sentences:
            yield Remark((engine,), tuple(sentences))
    yield from _not_measured(engines)


def _timing_losses(engine: EngineView, engines: Sequence[EngineView]) -> Iterable[Parts]:
    if not engine.measured:
        return
    latency = engine.entry["latency"]
    speedup, baseline = latency["speedup"], baseline_name(latency)
    figures = (times(speedup["median"]), " (", *_interval(speedup), ")")
    if _high(engine) < 1:
        yield (f"slower than {baseline}: ", *figures)
    elif _low(engine) <= 1:
        yield (f"no faster than {baseline} within its interval: ", *figures)
    wider = _slower_than_wider(engine, engines)
    if wider is not None:
        yield (
            f"no faster than {wider.id}, which is more precise: ",
            milliseconds(latency["p50_ms"]), " against ",
            milliseconds(wider.entry["latency"]["p50_ms"]),
        )  # fmt: skip
    if not latency["stable"]:
        yield ("timing unstable: something else was running, or the engine is erratic",)


def _slower_than_wider(engine: EngineView, engines: Sequence[EngineView]) -> EngineView | None:
    """The engine of the same target and a wider precision that is at least as fast, if any."""
    if engine.colour not in PRECISIONS:
        return None
    wider = PRECISIONS[: PRECISIONS.index(engine.colour)]
    for other in engines:
        same = other.entry["target"].raw == engine.entry["target"].raw
        if same and other.colour in wider and other.measured and other.passed:
            median = other.entry["latency"]["speedup"]["median"].raw
            if median >= engine.entry["latency"]["speedup"]["median"].raw:
                return other
    return None


def _quality_losses(engine: EngineView) -> Iterable[Parts]:
    receipt, parity = engine.entry["receipt"], engine.entry["parity"]
    if receipt["verdict"].raw != Verdict.FUSED:
        reason = f": {receipt['reason']}" if receipt["reason"] else ""
        yield (f"receipt {receipt['verdict']}{reason}",)
    if parity.has("failures"):
        for failure in parity["failures"]:
            yield (f"failed parity: {failure}",)
    if engine.rejected:
        yield ("rejected: its file is kept under a name that is no release",)
    accuracy = engine.entry["accuracy"]
    if accuracy and accuracy["top1"].raw < accuracy["top1_reference"].raw:
        yield (
            "top-1 ", percent(accuracy["top1"]), ", the reference's is ",
            percent(accuracy["top1_reference"]),
        )  # fmt: skip


def _not_measured(engines: Sequence[EngineView]) -> Iterable[Remark]:
    reasons: dict[str, list[EngineView]] = {}
    for engine in engines:
        if engine.entry["latency"].has("skipped") and not engine.rejected:
            reasons.setdefault(str(engine.entry["latency"]["skipped"]), []).append(engine)
    for reason, alike in reasons.items():
        yield Remark(tuple(alike), ((f"not measured: {reason}",),))


def _interval(speedup: Traced) -> Parts:
    low, high = speedup["ci95"]
    return (times(low), " to ", times(high))


def _low(engine: EngineView) -> float:
    return float(engine.entry["latency"]["speedup"]["ci95"][0].raw)


def _high(engine: EngineView) -> float:
    return float(engine.entry["latency"]["speedup"]["ci95"][1].raw)


def _fastest(manifest: Mapping[str, Any]) -> str | None:
    best = from_json(dict(manifest), "the manifest").fastest
    return best.id if best else None
