"""What a search for mixed precision finds, against random sets of blocks under the same budget.

    python -m benchmarks mixed-search --max-drop 1%                 the digits, made hard for INT8
    python -m benchmarks mixed-search resnet50 --min-sqnr 46 --draws 0

DRAWS sets are drawn, their sizes and then their blocks all alike likely; those whose answers keep
the budget, on the inputs that guide the search and on those held out, are timed as the search times
its own. The RIVALS fastest of them then run against the search's choice, in turns. Nothing is read
from an earlier run: the duration is that of a search that starts from nothing.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import attrs
import numpy as np
import typer

from benchmarks.options import RESULTS, Out, Seed, Threads, show_progress, words
from benchmarks.planted import rescaled
from benchmarks.record import Event, Recorder, described
from benchmarks.settings import Settings, free_path, header, settings_of
from exporter import pipeline
from exporter.artifact import Precision
from exporter.builds.asked_budget import asked_budget
from exporter.builds.given_preprocessing import with_file_read
from exporter.builds.request import DEFAULT_MODEL, ExportRequest
from exporter.images.samples import open_data
from exporter.lowerings import LoweredGraph, calibrate_ranges, key_of, make_lowerings
from exporter.mixing.space import Space
from exporter.passes.qdq.ranges import Ranges
from exporter.progress import Clock, Progress
from exporter.search.budget import Budget
from exporter.search.greedy import search
from exporter.search.points import Kept, front
from exporter.search.split import Split, split
from exporter.search.times import PairedTimes
from exporter.search.trials import Trials
from exporter.targets import get_target

KIND: Final = "mixed_search"
RIVALS: Final = 5
DUELS: Final = 5
"""How often each rival is timed against the search's choice."""


def command(
    model: Annotated[str, typer.Argument(help="What is exported.")] = DEFAULT_MODEL,
    weights: Annotated[
        str, typer.Option(help="As of an export; auto: of the digits those that INT8 hurts.")
    ] = "auto",
    data: Annotated[Path | None, typer.Option(help="As of an export.")] = None,
    preprocessing: Annotated[Path | None, typer.Option(help="As of an export.")] = None,
    targets: Annotated[str, typer.Option(help="Targets that have mixed engines.")] = "ort-cpu",
    max_drop: Annotated[str | None, typer.Option(help="As of an export.")] = None,
    min_sqnr: Annotated[float | None, typer.Option(help="As of an export.")] = None,
    draws: Annotated[int, typer.Option(min=0, help="Random sets to compare with.")] = 200,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = RESULTS,
) -> Path:
    """What a search for mixed precision finds, against random sets under the same budget.

    Example: python -m benchmarks mixed-search --max-drop 1%
    """
    settings = settings_of(threads, seed)
    request = ExportRequest(
        model,
        weights=weights,
        data=data,
        preprocessing=preprocessing,
        targets=words(targets),
        precisions=(Precision.MIXED,),
        max_drop=max_drop,
        min_sqnr=min_sqnr,
        threads=settings.threads,
        seed=seed,
    )
    raw = free_path(out, KIND, settings)
    measure(with_file_read(request), draws, settings, raw, show_progress())
    return raw


def measure(
    request: ExportRequest, draws: int, settings: Settings, raw: Path, progress: Progress
) -> None:
    """Searches, draws, times, and writes all of it as raw events."""
    budget = asked_budget(request)
    assert budget is not None
    with (
        Recorder(raw, header(KIND, DUELS, 1, settings)) as record,
        tempfile.TemporaryDirectory(prefix="exporter-") as folder,
    ):
        os.environ["XDG_CACHE_HOME"] = folder  # nothing is read from an earlier run
        request = attrs.evolve(_planted(request, Path(folder)), out=Path(folder) / "build")
        for target in request.targets:
            with _opened(request, target, budget, progress) as (space, parts):
                _on_target(space, parts, budget, draws, record, progress)


def _planted(request: ExportRequest, folder: Path) -> ExportRequest:
    """The digits network gets the weights that INT8 hurts."""
    if request.source != DEFAULT_MODEL or request.weights != "auto":
        return request
    import torch

    from exporter.models.embedded import state

    torch.save(rescaled(state(request.source)), folder / "rescaled.pth")
    return attrs.evolve(request, weights=str(folder / "rescaled.pth"))


@contextmanager
def _opened(
    request: ExportRequest, name: str, budget: Budget, progress: Progress
) -> Iterator[tuple[Space, Split]]:
    """What an export has when it begins to search."""
    clock, target = Clock(), get_target(name)
    model = pipeline.define_model(request, None, clock, progress)
    data = open_data(model.spec, request.data, seed=request.seed, progress=progress)
    assert request.out is not None
    with pipeline.opened_run(request, request.out, model.spec.name, clock, progress) as run:
        network = pipeline.optimize_model(run, model, pipeline.export_to_onnx(run, model))
        network, reference = pipeline.make_goldens(run, network, data.evaluation)
        calibration = data.calibration.take(request.calibration_samples)
        key = key_of(target.name, Precision.MIXED, target.dialect(Precision.INT8))
        ranges = calibrate_ranges(run, network.graph, calibration, [key])
        lowered = make_lowerings(run, network, calibration, ranges, [key])[key]
        assert isinstance(ranges, Ranges)
        assert isinstance(lowered, LoweredGraph)
        kept_in = target.mixes_in[0]
        yield Space(run, network, ranges, target, lowered, kept_in), split(reference, budget)


def _on_target(
    space: Space, parts: Split, budget: Budget, draws: int, record: Recorder, progress: Progress
) -> None:
    name, spec = space.target.name, space.network.model.spec
    with space.trials(parts) as trials:
        start = time.perf_counter()
        with progress.stage(f"search {space.name}"):
            found = search(trials, budget)
        record.write(
            "searched",
            target=name,
            model=spec.name,
            weights=asdict(spec.weights),
            budget=budget.option,
            seconds=time.perf_counter() - start,
            units=trials.units,
            chosen=None if found.chosen is None else asdict(found.chosen),
            best=asdict(found.best),
            held_out=asdict(found.held_out),
            looks=found.looks,
            inputs={"searched": parts.searched.inputs.count, "held": parts.held_out.inputs.count},
            points=[asdict(point) for point in trials.points],
            front=[asdict(point) for point in front(trials.points)],
        )
        if found.chosen is None:
            return
        sets = drawn(trials.units, draws, space.run.request.seed)
        random = _timed(name, trials, sets, budget, record, progress)
    for kept in sorted(random, key=lambda kept: random[kept])[:RIVALS]:
        ratios = []
        for _ in range(DUELS):  # both start anew: a process may be slow throughout, by bad luck
            with PairedTimes(
                name,
                lambda: space.built(found.best.kept, "chosen"),
                spec.inputs,
                space.run.conditions,
            ) as times:
                times.base_ms()
                ratios.append(times.ratio(kept, space.built(kept)))
        record.write("duel", target=name, kept=kept, over_chosen=ratios)


def drawn(units: Sequence[str], draws: int, seed: int) -> list[Kept]:
    """Random sets of kept units, neither none nor all of them."""
    generator = np.random.default_rng(seed)
    sets = []
    for _ in range(draws):
        size = int(generator.integers(1, len(units)))
        chosen = set(generator.choice(len(units), size, replace=False).tolist())
        sets.append(tuple(unit for index, unit in enumerate(units) if index in chosen))
    return sets


def _timed(
    target: str,
    trials: Trials,
    sets: Sequence[Kept],
    budget: Budget,
    record: Recorder,
    progress: Progress,
) -> dict[Kept, float]:
    """The milliseconds of each set whose answers keep the budget."""
    found: dict[Kept, float] = {}
    with progress.stage(f"random sets on {target}", len(sets)) as advance:
        for kept in sets:
            if kept not in found:
                figures = trials.held_out(kept)
                holds = budget.holds(figures)
                point = trials.at(kept) if holds else None
                if point is not None and budget.holds(point.figures):
                    found[kept] = point.ms
                record.write(
                    "drawn",
                    target=target,
                    kept=kept,
                    held_out=asdict(figures),
                    searched=None if point is None else asdict(point.figures),
                    ms=found.get(kept),
                )
            advance(1)
    return found


def analyse(events: Sequence[Event]) -> dict[str, Any]:
    """The result of a raw file's events."""
    head = events[0]
    rows = []
    for event in events:
        if event["event"] != "searched":
            continue
        target = event["target"]
        own = [one for one in events if one.get("target") == target]
        random = [one for one in own if one["event"] == "drawn"]
        duels = [one for one in own if one["event"] == "duel"]
        rows.append(
            {name: event[name] for name in event if name != "event"}
            | {
                "drawn": len(random),
                "drawn_within": sum(one["ms"] is not None for one in random),
                "duels": [_duel(one) for one in duels],
            }
        )
    return {"kind": KIND, **described(head), "searches": rows}


def _duel(event: Event) -> Mapping[str, Any]:
    ratios = event["over_chosen"]
    return {"kept": event["kept"], "over_chosen": median(ratios), "ratios": ratios}
