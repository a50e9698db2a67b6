"""What the drawings show and where on them: speedups, latencies, Pareto, drift, batch scaling.

Pure geometry: places in percent (`scales.py`); the templates turn it into SVG. A drawing without
data has `why_empty` instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from exporter.report import scales
from exporter.report.engines import EngineView
from exporter.report.scales import Scale
from exporter.report.traced import Figure, Traced, images_per_second, number

SCATTER_HEIGHT_PX = 320
NARROWEST_PX = 300
"""Of a drawing on a phone: labels that don't touch there don't touch on wider screens."""
LETTER_PX = 15
EXACT_DB = 160.0
"""Where an engine stands that answers bit for bit as the reference (its SQNR is infinite)."""


@dataclass(frozen=True)
class SpeedRow:
    """A bar with its interval; an engine without a measurement has none."""

    engine: EngineView
    width: float | None = None
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class SpeedChart:
    """Speedups, the fastest first; engines that were not measured come last."""

    rows: tuple[SpeedRow, ...]
    scale: Scale


@dataclass(frozen=True)
class LatencyRow:
    engine: EngineView
    p50: float
    p90: float
    p99: float
    eager: float
    """Where the baseline's p50 stands."""


@dataclass(frozen=True)
class LatencyChart:
    rows: tuple[LatencyRow, ...]
    scale: Scale


@dataclass(frozen=True)
class Point:
    """A mark, and where its letter stands beside it (pixels from the mark's middle)."""

    engine: EngineView
    x: float
    y: float
    """From the bottom."""
    label: tuple[int, int] = (11, 4)
    best: bool = False
    """On the Pareto front: no other engine is both faster and nearer to the reference."""


@dataclass(frozen=True)
class ScatterChart:
    points: tuple[Point, ...]
    front: tuple[tuple[float, float], ...]
    x: Scale
    y: Scale
    eager: float
    """Where the baseline's p50 stands on x."""


@dataclass(frozen=True)
class DriftPanel:
    """One engine's error along the network: built up (a line) and added by each block (marks)."""

    engine: EngineView
    built_up: tuple[tuple[float, float, Traced], ...]
    added: tuple[tuple[float, float, Traced], ...]
    stages: tuple[scales.Tick, ...]
    """Where each layer begins."""
    y: Scale


@dataclass(frozen=True)
class Line:
    engine: EngineView | None
    """None: the baseline."""
    points: tuple[tuple[float, float, Figure | None], ...]
    end: float
    """The height of its letter, in pixels from the top."""


@dataclass(frozen=True)
class ScalingChart:
    lines: tuple[Line, ...]
    x: Scale
    y: Scale
    height_px: int = SCATTER_HEIGHT_PX


def speed_chart(engines: Sequence[EngineView]) -> SpeedChart:
    """Bars of median speedup with their 95 % intervals, from zero."""
    measured = sorted((e for e in engines if e.measured), key=lambda e: -_speedup(e)[0])
    scale = scales.linear([_speedup(e)[2] for e in measured] + [1.0])
    rows = [
        SpeedRow(engine, *(scale.place(value) for value in _speedup(engine))) for engine in measured
    ]
    rows += [SpeedRow(engine) for engine in engines if not engine.measured]
    return SpeedChart(tuple(rows), scale)


def latency_chart(engines: Sequence[EngineView]) -> LatencyChart | None:
    """The percentiles of each engine at its first batch size, on one axis; None: no measurement."""
    keys = ("p50_ms", "p90_ms", "p99_ms", "eager_p50_ms")
    measured = [
        (engine, [number(engine.entry["latency"][key]) for key in keys])
        for engine in engines
        if engine.measured
    ]
    complete = [(e, [v for v in values if v is not None]) for e, values in measured]
    complete = [(engine, values) for engine, values in complete if len(values) == len(keys)]
    if not complete:
        return None
    scale = scales.spread([value for _, values in complete for value in values])
    rows = [
        LatencyRow(engine, *(scale.place(value) for value in values)) for engine, values in complete
    ]
    return LatencyChart(tuple(sorted(rows, key=lambda row: row.p50)), scale)


def scatter_chart(engines: Sequence[EngineView]) -> ScatterChart | None:
    """Signal to quantization noise against p50; None: fewer than two engines have both."""
    found = []
    for engine in engines:
        if engine.measured and engine.entry["parity"].has("sqnr_db"):
            p50, sqnr = number(engine.entry["latency"]["p50_ms"]), engine.entry["parity"]["sqnr_db"]
            decibels = EXACT_DB if sqnr.raw == "inf" else number(sqnr)
            if p50 is not None and decibels is not None:
                found.append((engine, p50, decibels))
    if len(found) < 2:
        return None
    eager = median(float(e.entry["latency"]["eager_p50_ms"].raw) for e, _, _ in found)
    x = scales.spread([p50 for _, p50, _ in found] + [eager])
    y = scales.between([decibels for _, _, decibels in found])
    points = []
    for engine, p50, decibels in found:
        beaten = any(
            other is not engine and ms <= p50 and db >= decibels and (ms, db) != (p50, decibels)
            for other, ms, db in found
        )
        points.append(Point(engine, x.place(p50), y.place(decibels), best=not beaten))
    front = sorted((point.x, point.y) for point in points if point.best)
    return ScatterChart(_labelled(points, front), tuple(front), x, y, x.place(eager))


def _labelled(points: Sequence[Point], front: Sequence[tuple[float, float]]) -> tuple[Point, ...]:
    """Each letter beside its mark, where it covers no mark, no other letter and not the front."""
    lines = _steps_px(front)
    marks = [(p.x * NARROWEST_PX / 100, -p.y * SCATTER_HEIGHT_PX / 100) for p in points]
    taken = list(marks)
    placed = []
    offsets = [(11, 4), (-19, 4), (-4, -10), (-4, 20), (11, -9), (11, 18), (-19, -9), (-19, 18)]
    offsets += [(26 + 14 * i, 4) for i in range(6)]
    for point, (x, y) in zip(points, marks, strict=True):
        centres = [(x + dx + 4, y + dy - 4) for dx, dy in offsets]
        free = [
            all(
                abs(cx - tx) >= LETTER_PX or abs(cy - ty) >= LETTER_PX
                for tx, ty in taken
                if (tx, ty) != (x, y)
            )
            and not any(_crosses(line, cx, cy) for line in lines)
            for cx, cy in centres
        ]
        chosen = free.index(True) if True in free else 0
        taken.append(centres[chosen])
        placed.append(Point(point.engine, point.x, point.y, label=offsets[chosen], best=point.best))
    return tuple(placed)


def _steps_px(front: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """The front as it is drawn: (left, right, top, bottom) of each of its strokes, in pixels."""
    corners = [(x * NARROWEST_PX / 100, -y * SCATTER_HEIGHT_PX / 100) for x, y in front]
    lines = []
    for (x, y), (next_x, next_y) in itertools.pairwise(corners):
        lines.append((x, next_x, y, y))
        lines.append((next_x, next_x, min(y, next_y), max(y, next_y)))
    return lines


def _crosses(line: tuple[float, float, float, float], x: float, y: float) -> bool:
    """Whether a stroke touches the letter whose middle is (x, y)."""
    left, right, top, bottom = line
    reach = LETTER_PX / 2
    return left < x + reach and x - reach < right and top < y + reach and y - reach < bottom


def drift_panels(engines: Sequence[EngineView]) -> tuple[DriftPanel, ...]:
    """A panel for each engine with drift figures, all on the same height scale."""
    drifting = [(engine, engine.drift) for engine in engines if engine.drift is not None]
    values = [
        value
        for _, blocks in drifting
        for block in blocks
        for key in ("built_up_rel_l2", "added_rel_l2")
        if (value := number(block[key])) is not None
    ]
    y = scales.decades(values)
    return tuple(_drift_panel(engine, blocks, y) for engine, blocks in drifting)


def _drift_panel(engine: EngineView, blocks: Traced, y: Scale) -> DriftPanel:
    count = len(blocks)

    def along(index: int) -> float:
        return round(100 * (index + 0.5) / count, 2)

    def series(key: str) -> tuple[tuple[float, float, Traced], ...]:
        return tuple(
            (along(i), y.place(value), block[key])
            for i, block in enumerate(blocks)
            if (value := number(block[key])) is not None
        )

    names = [str(block["name"]) for block in blocks]
    layers = [name.rpartition(".")[0] for name in names]
    stages = tuple(
        scales.Tick(along(i), layers[i])
        for i in range(count)
        if layers[i] and (i == 0 or layers[i] != layers[i - 1])
    )
    return DriftPanel(engine, series("built_up_rel_l2"), series("added_rel_l2"), stages, y)


def scaling_chart(engines: Sequence[EngineView]) -> ScalingChart | None:
    """Images a second against the batch size; None: fewer than two sizes were measured."""
    sizes = sorted({int(x["batch"].raw) for e in engines for x in e.entry["latency_by_batch"]})
    if len(sizes) < 2:
        return None
    series: list[tuple[EngineView | None, list[tuple[int, float, Figure | None]]]] = []
    eager: dict[int, list[float]] = {}
    for engine in engines:
        points: list[tuple[int, float, Figure | None]] = []
        for latency in engine.entry["latency_by_batch"]:
            rate, batch = images_per_second(latency), int(latency["batch"].raw)
            baseline = number(latency["eager_p50_ms"])
            if rate is not None:
                points.append((batch, float(rate.value), rate))
            if baseline:
                eager.setdefault(batch, []).append(1000 * batch / baseline)
        if points:
            series.append((engine, points))
    series.append((None, [(batch, median(rates), None) for batch, rates in sorted(eager.items())]))
    x = scales.steps(sizes)
    y = scales.linear([rate for _, points in series for _, rate, _ in points])
    placed = [
        (engine, tuple((x.place(batch), y.place(rate), figure) for batch, rate, figure in points))
        for engine, points in series
    ]
    ends = _apart([(1 - points[-1][1] / 100) * SCATTER_HEIGHT_PX for _, points in placed])
    lines = [Line(engine, points, end) for (engine, points), end in zip(placed, ends, strict=True)]
    return ScalingChart(tuple(lines), x, y)


def _apart(heights: Sequence[float]) -> list[float]:
    """Heights in pixels moved as little as keeps letters from covering each other."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    moved = list(heights)
    lowest = -float(LETTER_PX)
    for index in order:
        moved[index] = lowest = max(moved[index], lowest + LETTER_PX)
    highest = float(SCATTER_HEIGHT_PX + LETTER_PX)
    for index in reversed(order):
        moved[index] = highest = min(moved[index], highest - LETTER_PX)
    return [round(height, 1) for height in moved]


def _speedup(engine: EngineView) -> tuple[float, float, float]:
    """Median and the interval's ends."""
    speedup = engine.entry["latency"]["speedup"]
    low, high = (float(end.raw) for end in speedup["ci95"])
    return float(speedup["median"].raw), low, high
