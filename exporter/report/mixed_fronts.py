"""What each search for mixed precision found: error against time of the sets to choose from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.report import scales
from exporter.report.engines import EngineView
from exporter.report.scales import Scale
from exporter.report.traced import Traced
from exporter.search.record import FrontPoint, MixedSearch


@dataclass(frozen=True)
class FrontMark:
    """A set of blocks in float, and where it stands (percent, from the left and the bottom)."""

    point: Traced[FrontPoint]
    x: float
    y: float
    chosen: bool
    """It is what the engine keeps."""


@dataclass(frozen=True)
class FrontPanel:
    """The front of one engine's search, the fastest set first."""

    engine: EngineView
    search: Traced[MixedSearch]
    marks: tuple[FrontMark, ...]
    x: Scale
    y: Scale


def front_panels(engines: Sequence[EngineView]) -> tuple[FrontPanel, ...]:
    """A panel for each engine in `mixed`."""
    return tuple(_panel(engine) for engine in engines if engine.record.search is not None)


def _panel(engine: EngineView) -> FrontPanel:
    search: Traced[MixedSearch] = engine.entry.search
    drawn = [
        point
        for point in search.front
        if math.isfinite(point.raw.ms) and math.isfinite(point.raw.sqnr_db)
    ]
    x = scales.spread([point.raw.ms for point in drawn])
    y = scales.between([point.raw.sqnr_db for point in drawn])
    marks = tuple(
        FrontMark(
            point,
            x.place(point.raw.ms),
            y.place(point.raw.sqnr_db),
            chosen=point.raw.kept == search.raw.kept,
        )
        for point in drawn
    )
    return FrontPanel(engine, search, marks, x, y)
