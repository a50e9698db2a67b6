"""fleet.html: sweep.json as one page, in the style and with the script of a build's report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.artifact import Precision
from exporter.fleet.record import BuildRecord, Choice, Offer, SweepRecord
from exporter.report import scales
from exporter.report.engines import mark_of
from exporter.report.flat import ReportEngine, ReportTiming
from exporter.report.page import filled
from exporter.report.scales import Scale
from exporter.report.traced import Traced
from exporter.targets import Mark

TEMPLATE = "fleet.html.j2"


@dataclass(frozen=True)
class EngineName:
    """An engine's id with its marks, whichever machine it was built on."""

    id: str
    colour: Precision
    shape: Mark


@dataclass(frozen=True)
class TimedRow:
    """One engine on one kind of machine, where it stands on the axis."""

    engine: EngineName
    hardware: str
    rejected: bool
    timing: Traced[ReportTiming]
    p50: float
    p99: float
    low: float | None
    """Of the interval of p50, as `high`; None: it was not kept."""
    high: float | None


@dataclass(frozen=True)
class ModelChart:
    """The engines of one model on every kind of machine, the fastest first."""

    model: str
    rows: tuple[TimedRow, ...]
    scale: Scale


@dataclass(frozen=True)
class Cell:
    """What became of one engine on one kind of machine."""

    timing: Traced[ReportTiming] | None = None
    rejected: bool = False
    word: str = ""
    """Where it was not timed, with `why`."""
    why: str = ""


@dataclass(frozen=True)
class GridRow:
    engine: EngineName
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ModelGrid:
    """Engines by hardware."""

    model: str
    headings: list[str]
    rows: tuple[GridRow, ...]
    reasons: tuple[str, ...]
    """Why engines were not timed, a line each."""


@dataclass(frozen=True)
class ProofRow:
    model: str
    hardware: str
    engine: EngineName
    entry: Traced[ReportEngine]


@dataclass(frozen=True)
class ChoiceView:
    entry: Traced[Choice]
    engine: EngineName | None


@dataclass(frozen=True)
class OfferView:
    entry: Traced[Offer]
    engine: EngineName
    keeps: bool


def render(record: SweepRecord) -> str:
    """The page. Every value is escaped: a model's name may be anything."""
    traced = Traced(record)
    models = list(dict.fromkeys(one.model for one in record.choices))
    names = {
        engine.id: EngineName(engine.id, engine.precision, mark_of(engine.target))
        for build in record.builds
        for engine in build.report.engines
    }
    offers = [
        OfferView(entry, names[entry.raw.engine], record.limits.keeps(entry.raw))
        for entry in sorted(traced.offers, key=lambda one: _place(one.raw, models))
    ]
    return filled(
        TEMPLATE,
        s=traced,
        version=_version(record),
        models=models,
        failures=record.failures,
        limits_said=str(record.limits).replace("<=", "\N{LESS-THAN OR EQUAL TO}"),
        priced=any(one.price is not None for one in record.hardware),
        untrained=[m for m in models if _is_untrained(m, record.builds)],
        choices=[
            ChoiceView(entry, None if entry.raw.best is None else names[entry.raw.best.engine])
            for entry in traced.choices
        ],
        charts=[chart for model in models if (chart := _chart(model, traced, names))],
        grids=[_grid(model, traced, names) for model in models],
        offers=offers,
        proofs=[
            ProofRow(build.raw.model, build.raw.hardware, names[engine.raw.id], engine)
            for build in traced.builds
            for engine in build.report.engines
        ],
    )


def _place(offer: Offer, models: Sequence[str]) -> tuple[int, float, float]:
    """A model's cheapest offers first; without prices those with the most images a second."""
    cost = 0.0 if offer.cost_a_million is None else offer.cost_a_million
    return models.index(offer.model), cost, -offer.images_per_s


def _version(record: SweepRecord) -> str:
    """Of this package, on the nodes."""
    return next((one.versions.get("exporter", "") for one in record.hardware), "")


def _is_untrained(model: str, builds: Sequence[BuildRecord]) -> bool:
    return any(one.model == model and not one.report.trained for one in builds)


def _of_model(model: str, sweep: Traced[SweepRecord]) -> Iterator[Traced[BuildRecord]]:
    return (build for build in sweep.builds if build.raw.model == model)


def _chart(
    model: str, sweep: Traced[SweepRecord], names: dict[str, EngineName]
) -> ModelChart | None:
    """None: nothing of it was measured."""
    found = [
        (build.raw.hardware, engine, engine.latencies[0])
        for build in _of_model(model, sweep)
        for engine in build.report.engines
        if engine.latencies and _is_finite(engine.raw.latencies[0])
    ]
    if not found:
        return None
    scale = scales.spread([figure for *_, timing in found for figure in _figures(timing.raw)])
    rows = []
    for hardware, engine, timing in sorted(found, key=lambda one: one[2].raw.p50_ms):
        interval = timing.raw.p50_ci95_ms
        rows.append(
            TimedRow(
                names[engine.raw.id],
                hardware,
                engine.raw.rejected,
                timing,
                scale.place(timing.raw.p50_ms),
                scale.place(timing.raw.p99_ms),
                None if interval is None else scale.place(interval[0]),
                None if interval is None else scale.place(interval[1]),
            )
        )
    return ModelChart(model, tuple(rows), scale)


def _figures(timing: ReportTiming) -> tuple[float, ...]:
    return (timing.p50_ms, timing.p99_ms, *(timing.p50_ci95_ms or ()))


def _is_finite(timing: ReportTiming) -> bool:
    return all(map(math.isfinite, _figures(timing)))


def _grid(model: str, sweep: Traced[SweepRecord], names: dict[str, EngineName]) -> ModelGrid:
    builds = {build.raw.hardware: build for build in _of_model(model, sweep)}
    hardware = [one.name for one in sweep.raw.hardware]
    ids = dict.fromkeys(e.id for build in builds.values() for e in build.raw.report.engines)
    rows = tuple(
        GridRow(names[one], tuple(_cell(builds.get(name), one) for name in hardware)) for one in ids
    )
    where: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, cell in zip(hardware, row.cells, strict=True):
            if cell.why:
                where.setdefault((row.engine.id, cell.why), []).append(name)
    reasons = tuple(f"{one} on {', '.join(on)}: {why}" for (one, why), on in where.items())
    return ModelGrid(model, [f"#{name}" for name in hardware], rows, reasons)


def _cell(build: Traced[BuildRecord] | None, engine_id: str) -> Cell:
    if build is None:
        return Cell()
    for engine in build.report.engines:
        if engine.raw.id == engine_id:
            if engine.raw.latencies:
                return Cell(engine.latencies[0], engine.raw.rejected)
            return Cell(word="not timed", why=engine.raw.latency_skipped or "not measured")
    for failed in build.raw.report.failed_engines:
        if failed.id == engine_id:
            return Cell(word="failed", why=failed.reason)
    return Cell()
