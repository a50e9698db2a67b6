"""What is drawn of throughput: images a second over p99, a mark for each layout and batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.artifact import Skipped
from exporter.builds.records import Manifest
from exporter.measure.throughput import ServedPoint
from exporter.report import scales
from exporter.report.charts import SCATTER_HEIGHT_PX
from exporter.report.engines import EngineView
from exporter.report.scales import Scale
from exporter.report.traced import Traced


@dataclass(frozen=True)
class LoadedMark:
    """One layout at one batch size."""

    engine: EngineView
    point: Traced[ServedPoint]
    x: float
    y: float
    """From the bottom."""

    @property
    def words(self) -> str:
        """As the mark is called: "2 x 1, batch 8"."""
        return f"{self.point.raw.layout}, batch {self.point.raw.batch}"


@dataclass(frozen=True)
class LoadChart:
    """The best of each engine come last: they are drawn over the others."""

    marks: tuple[LoadedMark, ...]
    engines: tuple[EngineView, ...]
    x: Scale
    y: Scale
    limit: float | None
    """Where the largest p99 that was allowed stands on x; None: it was not limited."""
    height_px: int = SCATTER_HEIGHT_PX


def load_chart(manifest: Traced[Manifest], engines: Sequence[EngineView]) -> LoadChart | None:
    """None where throughput was not measured, or nothing of it is finite."""
    measured = manifest.raw.throughput
    if isinstance(measured, Skipped):
        return None
    by_id = {engine.id: engine for engine in engines}
    drawn = [
        point
        for point in manifest.throughput.points
        if point.raw.engine in by_id
        and all(map(math.isfinite, (point.raw.p99_ms, point.raw.images_per_s)))
    ]
    if not drawn:
        return None
    limit = measured.max_p99_ms
    limits = [] if limit is None else [limit]
    x = scales.spread([*(point.raw.p99_ms for point in drawn), *limits])
    y = scales.linear([point.raw.images_per_s for point in drawn])
    marks = [
        LoadedMark(
            by_id[point.raw.engine],
            point,
            x.place(point.raw.p99_ms),
            y.place(point.raw.images_per_s),
        )
        for point in sorted(drawn, key=lambda point: bool(point.raw.best))
    ]
    return LoadChart(
        marks=tuple(marks),
        engines=tuple(e for e in engines if any(mark.engine is e for mark in marks)),
        x=x,
        y=y,
        limit=None if limit is None else x.place(limit),
    )
