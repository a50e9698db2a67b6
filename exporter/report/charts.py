"""What the drawings show and where on them: speedups, latencies, Pareto, drift, batch scaling.

Pure geometry: places in percent (`scales.py`), the templates turn it into SVG. A figure that is not
finite is on no drawing; the tables have it. Where nothing is left to draw there is no chart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from exporter.prove.certificate import BlockDrift
from exporter.report import scales
from exporter.report.engines import EngineView
from exporter.report.scales import Scale
from exporter.report.traced import Figure, Traced, images_per_second
from exporter.targets import MachineKind

SCATTER_HEIGHT_PX = 320
NARROWEST_PX = 300
"""Of a drawing on a phone: labels that don't touch there don't touch on wider screens."""
LETTER_PX = 15
EXACT_DB = 160.0
"""Beyond float32's own precision: more than this is drawn here, so that one engine that answers bit
for bit as the reference does not press all others together."""


@dataclass(frozen=True)
class Bar:
    """A median speedup and its interval."""

    width: float
    low: float
    high: float


@dataclass(frozen=True)
class SpeedRow:
    engine: EngineView
    bar: Bar | None = None


@dataclass(frozen=True)
class SpeedChart:
    """Speedups on one device, the fastest first; engines without a bar come last."""

    device: MachineKind
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
    eager: tuple[float, ...]
    """Where the p50 of each device's baseline stands on x."""


@dataclass(frozen=True)
class DriftPanel:
    """One engine's error along the network: built up (a line) and added by each block (marks)."""

    engine: EngineView
    built_up: tuple[tuple[float, float, Traced[float]], ...]
    added: tuple[tuple[float, float, Traced[float]], ...]
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


def speed_charts(engines: Sequence[EngineView]) -> tuple[SpeedChart, ...]:
    """One for each device that was measured, since speedups over two baselines don't compare.

    What was not measured is in the last one; if nothing was, that is a CPU's.
    """
    devices = [device for device in MachineKind if _measured_on(engines, device)]
    devices = devices or [MachineKind.CPU]
    unmeasured = [engine for engine in engines if not engine.latency]
    return tuple(
        _speed_chart(
            device,
            [*_measured_on(engines, device), *(unmeasured if device is devices[-1] else ())],
        )
        for device in devices
    )


def _measured_on(engines: Sequence[EngineView], device: MachineKind) -> list[EngineView]:
    return [engine for engine in engines if engine.latency and engine.latency.device is device]


def _speed_chart(device: MachineKind, engines: Sequence[EngineView]) -> SpeedChart:
    """Bars of median speedup with their 95 % intervals, from zero."""
    found = [
        (engine, (engine.latency.speedup.median, *engine.latency.speedup.ci95))
        for engine in engines
        if engine.latency
    ]
    drawn = sorted(
        ((engine, values) for engine, values in found if _finite(values)),
        key=lambda row: -row[1][0],
    )
    scale = scales.linear([high for _, (_, _, high) in drawn] + [1.0])
    rows = [SpeedRow(engine, Bar(*map(scale.place, values))) for engine, values in drawn]
    rows += [SpeedRow(engine) for engine in engines if engine not in [e for e, _ in drawn]]
    return SpeedChart(device, tuple(rows), scale)


def latency_chart(engines: Sequence[EngineView]) -> LatencyChart | None:
    """The percentiles of each engine at its first batch size, on one axis; None: no measurement."""
    found = [
        (e, (e.latency.p50_ms, e.latency.p90_ms, e.latency.p99_ms, e.latency.eager_p50_ms))
        for e in engines
        if e.latency
    ]
    drawn = [(engine, values) for engine, values in found if _finite(values)]
    if not drawn:
        return None
    scale = scales.spread([value for _, values in drawn for value in values])
    rows = [LatencyRow(engine, *map(scale.place, values)) for engine, values in drawn]
    return LatencyChart(tuple(sorted(rows, key=lambda row: row.p50)), scale)


def scatter_chart(engines: Sequence[EngineView]) -> ScatterChart | None:
    """Signal to quantization noise against p50; None: fewer than two engines have both."""
    found = []
    for engine in engines:
        if engine.latency and engine.parity:
            p50, decibels = engine.latency.p50_ms, min(engine.parity.sqnr_db, EXACT_DB)
            if _finite((p50, decibels, engine.latency.eager_p50_ms)):
                found.append((engine, p50, decibels, engine.latency.eager_p50_ms))
    if len(found) < 2:
        return None
    by_device: dict[MachineKind, list[float]] = {}
    for engine, _, _, eager_p50 in found:
        if engine.latency:
            by_device.setdefault(engine.latency.device, []).append(eager_p50)
    eager = [median(values) for values in by_device.values()]
    x = scales.spread([p50 for _, p50, _, _ in found] + eager)
    y = scales.between([decibels for _, _, decibels, _ in found])
    points = []
    for engine, p50, decibels, _ in found:
        beaten = any(
            ms <= p50 and db >= decibels and (ms, db) != (p50, decibels) for _, ms, db, _ in found
        )
        points.append(Point(engine, x.place(p50), y.place(decibels), best=not beaten))
    front = sorted((point.x, point.y) for point in points if point.best)
    return ScatterChart(_labelled(points, front), tuple(front), x, y, tuple(map(x.place, eager)))


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
    drifting = [(engine, engine.drift) for engine in engines if engine.drift]
    errors = [
        error
        for _, blocks in drifting
        for block in blocks.raw
        for error in (block.built_up_rel_l2, block.added_rel_l2)
    ]
    y = scales.decades(errors)
    return tuple(_drift_panel(engine, blocks, y) for engine, blocks in drifting)


def _drift_panel(
    engine: EngineView, blocks: Traced[tuple[BlockDrift, ...]], y: Scale
) -> DriftPanel:
    count = len(blocks)

    def along(index: int) -> float:
        return round(100 * (index + 0.5) / count, 2)

    def series(errors: Iterable[Traced[float]]) -> tuple[tuple[float, float, Traced[float]], ...]:
        return tuple(
            (along(i), y.place(error.raw), error)
            for i, error in enumerate(errors)
            if math.isfinite(error.raw)
        )

    layers = [block.name.rpartition(".")[0] for block in blocks.raw]
    stages = tuple(
        scales.Tick(along(i), layers[i])
        for i in range(count)
        if layers[i] and (i == 0 or layers[i] != layers[i - 1])
    )
    return DriftPanel(
        engine,
        series(block.built_up_rel_l2 for block in blocks),
        series(block.added_rel_l2 for block in blocks),
        stages,
        y,
    )


def scaling_chart(engines: Sequence[EngineView]) -> ScalingChart | None:
    """Images a second against the batch size; None: fewer than two sizes were measured."""
    sizes = sorted({latency.batch for e in engines for latency in e.record.latency_by_batch})
    if len(sizes) < 2:
        return None
    series: list[tuple[EngineView | None, list[tuple[int, float, Figure | None]]]] = []
    eager: dict[MachineKind, dict[int, list[float]]] = {}
    for engine in engines:
        points: list[tuple[int, float, Figure | None]] = []
        for entry in engine.entry.latency_by_batch:
            latency, rate = entry.raw, images_per_second(entry)
            if rate is not None:
                points.append((latency.batch, rate.value, rate))
            if 0 < latency.eager_p50_ms < math.inf:
                rates = eager.setdefault(latency.device, {}).setdefault(latency.batch, [])
                rates.append(1000 * latency.batch / latency.eager_p50_ms)
        if points:
            series.append((engine, points))
    for by_batch in eager.values():
        baseline = [(batch, median(rates), None) for batch, rates in sorted(by_batch.items())]
        series.append((None, list(baseline)))
    if not series:
        return None
    x = scales.steps(sizes)
    y = scales.linear([rate for _, points in series for _, rate, _ in points])
    placed = [
        (engine, tuple((x.place(batch), y.place(rate), figure) for batch, rate, figure in points))
        for engine, points in series
    ]
    ends = _spread_apart([(1 - points[-1][1] / 100) * SCATTER_HEIGHT_PX for _, points in placed])
    lines = [Line(engine, points, end) for (engine, points), end in zip(placed, ends, strict=True)]
    return ScalingChart(tuple(lines), x, y)


def _spread_apart(heights: Sequence[float]) -> list[float]:
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


def _finite(values: Iterable[float]) -> bool:
    return all(map(math.isfinite, values))
