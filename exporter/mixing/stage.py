"""Which blocks each `mixed` engine keeps in float, and what would mend a failed INT8 engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from exporter.artifact import Precision
from exporter.builds.asked_budget import asked_budget
from exporter.builds.records import EngineRecord
from exporter.builds.request import ExportRequest
from exporter.builds.run import Run
from exporter.errors import BuildError, UsageError
from exporter.graph.optimize import OptimizedModel
from exporter.lowerings import LoweredGraph, Lowerings, key_of
from exporter.mixing.space import Space
from exporter.passes.qdq.ranges import Ranges
from exporter.passes.units import kept_names
from exporter.plan import Pair
from exporter.prove.certificate import Parity
from exporter.prove.limits import LIMITS
from exporter.prove.reference import Reference
from exporter.search.budget import Budget, BudgetKind
from exporter.search.greedy import Found, search
from exporter.search.hint import find_hint
from exporter.search.points import front
from exporter.search.record import FrontPoint, MixedSearch
from exporter.search.split import Split, split
from exporter.search.trials import Trials
from exporter.targets import get_target


def check_searchable(request: ExportRequest, reference: Reference) -> None:
    """Refuses a budget early, before anything is lowered.

    Raises:
        UsageError: the evaluation inputs cannot tell whether it holds.
    """
    budget = asked_budget(request)
    if budget is not None:
        split(reference, budget)


def search_mixed(
    run: Run,
    network: OptimizedModel,
    ranges: Ranges | BuildError | None,
    reference: Reference,
    pairs: Iterable[Pair],
    lowerings: Lowerings,
) -> Lowerings:
    """The lowered graphs, those in `mixed` with the blocks in float that the budget needs.

    A search that finds no such set costs its engine alone, and says what the best set reaches.
    """
    budget = asked_budget(run.request)
    targets = [target for target, precision in pairs if precision is Precision.MIXED]
    if budget is None or not targets:
        return lowerings
    parts = split(reference, budget)
    made = dict(lowerings)
    for target in targets:
        key = key_of(target.name, Precision.MIXED, target.dialect(Precision.INT8))
        start = lowerings[key]
        if isinstance(start, BuildError):
            continue
        assert isinstance(ranges, Ranges)
        spaces = [Space(run, network, ranges, target, start, kind) for kind in target.mixes_in]
        try:
            made[key] = _found(spaces, budget, parts)
        except BuildError as error:
            made[key] = error
    return made


def with_repair_hint(
    run: Run,
    network: OptimizedModel,
    ranges: Ranges | BuildError | None,
    reference: Reference,
    engine: EngineRecord,
    lowerings: Lowerings,
) -> EngineRecord:
    """An engine; where it is in INT8 and failed parity on trained weights, with what would mend it.

    Not where the blocks of its target cannot be timed here, or a budget was given already.
    """
    failed = isinstance(engine.parity, Parity) and not engine.parity.passed
    if engine.precision is not Precision.INT8 or not engine.trained or not failed:
        return engine
    target = get_target(engine.target)
    if not target.mixes or target.runs_here() is not None or asked_budget(run.request) is not None:
        return engine
    start = lowerings[key_of(engine.target, engine.precision, engine.dialect)]
    assert isinstance(start, LoweredGraph)
    assert isinstance(ranges, Ranges)
    limits = LIMITS[engine.precision, engine.trained]
    space = Space(run, network, ranges, target, start, target.mixes_in[0])
    try:
        parts = split(reference, Budget(BudgetKind.MIN_SQNR, limits["sqnr_db"]))
        with space.trials(parts) as trials, run.clock.time("search"):
            title = f"find what {engine.id} loses"
            with run.progress.stage(title, len(trials.units)) as advance:
                hint = find_hint(trials, limits, advance).in_words
    except (BuildError, UsageError) as error:
        hint = f"which blocks its error comes from was not found: {error}"
    return replace(engine, notes=(*engine.notes, hint))


def _found(spaces: Iterable[Space], budget: Budget, parts: Split) -> LoweredGraph:
    """The lowered graph with the units in float that the budget needs.

    In the first type in which a set keeps the budget: BF16 has 8 bits, which are few for some.
    """
    shortfall = ""
    for space in spaces:
        run = space.run
        with space.trials(parts) as trials, run.clock.time("search"):
            count = 1 + len(trials.units)
            title = (
                f"search {space.name} for {budget.option} with blocks in {space.kept_in.upper()}"
            )
            with run.progress.stage(title, count) as advance:
                found = search(trials, budget, advance)
            if found.chosen is None:
                shortfall = found.shortfall(budget)
                continue
            record = _record(space, found, trials, budget, parts)
        path = run.scratch / f"{space.name.replace(':', '-')}.onnx"
        lowered = space.lowered(record.kept, path)
        return replace(lowered, notes=(*lowered.notes, record.in_words), search=record)
    raise BuildError(shortfall)


def _record(
    space: Space, found: Found, trials: Trials, budget: Budget, parts: Split
) -> MixedSearch:
    chosen = found.best
    return MixedSearch(
        budget=budget.kind,
        limit=budget.limit,
        found=budget.of(found.held_out),
        kept=chosen.kept,
        keep=kept_names(space.units, chosen.kept)[0],
        searched=parts.searched.inputs.count,
        held_out=parts.held_out.inputs.count,
        looks=found.looks,
        int8_ms=trials.at(()).ms,
        ms=chosen.ms,
        tried=len(trials.points),
        front=tuple(
            FrontPoint(
                kept=point.kept,
                ms=point.ms,
                rel_l2=point.figures.rel_l2,
                sqnr_db=point.figures.sqnr_db,
                agreement=point.figures.agreement,
                drop=point.figures.drop,
            )
            for point in front(trials.points)
        ),
        kept_in=space.kept_in,
    )
