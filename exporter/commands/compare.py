"""Two builds side by side: engines gained, lost, slower, faster, less accurate.

`compare_engine.py` says what changed in one engine. A limit trips where a change is told apart from
noise and is beyond it. What can no longer be held against a limit that was asked for trips it too:
an engine that is lost cannot pass.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exporter.builds import manifest as manifests
from exporter.builds.codec import json_text, structure
from exporter.builds.folder import find_build
from exporter.commands.compare_engine import (
    Change,
    ErrorChange,
    SpeedChange,
    differences,
    error_change,
    speed_changes,
)
from exporter.errors import InputError, UsageError, unknown_name, unused_option
from exporter.report.flat import KIND, EngineRow, FlatReport, Rows, flat

if TYPE_CHECKING:
    from rich.console import Console

BENCHMARK = "benchmark"
"""The kind of a result file of the benchmark suite: rows of engines as in a report.json."""
ALL: Final = "all"
"""Stands for every engine of OLD that passed its gates, among those that are required."""


@dataclass(frozen=True)
class Comparison:
    """What changed from OLD to NEW."""

    model: str
    gained: tuple[str, ...]
    lost: tuple[tuple[str, str], ...]
    """(engine, why): no longer built, or rejected now."""
    speeds: tuple[SpeedChange, ...]
    errors: tuple[ErrorChange, ...]
    not_compared: tuple[tuple[str, str], ...]
    """(engine, why) for figures that only one side has, or that were taken differently."""
    notes: tuple[str, ...]
    failures: tuple[str, ...]
    """Each limit that was passed, in words; the command then ends with exit code 1."""

    def to_json(self) -> str:
        """The same, for programs."""
        return json_text(self)


def load(path: Path) -> Rows:
    """What is compared of a build folder, a manifest.json, a report.json or a benchmark result.

    Raises:
        InputError: nothing there, not JSON, another schema, or fields that do not fit.
    """
    if not path.is_file() and path.suffix != ".json":
        path = find_build(path)
        names = (manifests.FILE_NAME, "report.json")
        found = [path / name for name in names if (path / name).is_file()]
        if not found:
            raise InputError(f"{path} holds no {' or '.join(names)}; give a build folder")
        path = found[0]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); export the model again") from None
    return _rows(content, str(path))


def _rows(content: Any, name: str) -> Rows:
    if not isinstance(content, dict) or "kind" not in content:
        return flat(manifests.from_json(content, name))
    kind, schema = content["kind"], content.get("schema")
    if kind not in (KIND, BENCHMARK):
        raise InputError(
            f"{name} is of kind {kind!r}; give a manifest.json, a report.json or a result of kind "
            f"{BENCHMARK!r}"
        )
    if schema != manifests.SCHEMA:
        raise InputError(f"{name} has schema {schema!r}, expected {manifests.SCHEMA}")
    rows = {key: value for key, value in content.items() if key not in ("kind", "schema")}
    if kind == KIND:
        return structure(rows, FlatReport, name, remedy="write it again with exporter report")
    return structure(rows, Rows, name, strict=False, remedy="run the benchmark again")


def compare(
    old: Rows,
    new: Rows,
    *,
    max_slowdown: float | None = None,
    max_error_growth: float | None = None,
    require: Collection[str] = (),
    allow_other_host: bool = False,
) -> Comparison:
    """Compares two builds of one model; `require`: engines that NEW must have, or `ALL` of OLD's.

    Raises:
        UsageError: two models, a limit that is negative or that nothing in OLD is held to, an
            engine that neither has, or timings of two hosts without `allow_other_host`.
    """
    for option, limit in (("slowdown", max_slowdown), ("error-growth", max_error_growth)):
        if limit is not None and not limit >= 0:
            raise UsageError(f"--max-{option} {limit}: give a fraction of 0 or more, as in 0.05")
    if old.model != new.model:
        raise UsageError(
            f"OLD is a build of {old.model}, NEW of {new.model}; compare two of one model"
        )
    before, after = ({row.id: row for row in side.engines} for side in (old, new))
    if max_slowdown is not None and not _timed(before):
        raise unused_option("--max-slowdown", "timings, and OLD has none", "measure OLD")
    if max_error_growth is not None and not _with_error(before):
        raise unused_option("--max-error-growth", "errors, and OLD has none", "export OLD again")
    other_host = differences(vars(old.host), vars(new.host))
    if other_host and _timed(before) & _timed(after) and not allow_other_host:
        raise UsageError(
            f"the timings are of two hosts ({other_host}) and say nothing of the engines; measure "
            "both builds on one (exporter benchmark DIR), or --allow-other-host"
        )
    lost = tuple(_lost(before, after, new.failures))
    common = [name for name in before if name in after and name not in dict(lost)]
    speeds, errors, not_compared = [], [], []
    for name in common:
        changes, reasons = speed_changes(before[name], after[name])
        speeds += changes
        not_compared += reasons
        change = error_change(before[name], after[name], max_error_growth)
        if isinstance(change, ErrorChange):
            errors.append(change)
        else:
            not_compared.append((name, change))
    return Comparison(
        model=new.model,
        gained=tuple(name for name in after if name not in before),
        lost=lost,
        speeds=tuple(speeds),
        errors=tuple(errors),
        not_compared=tuple(not_compared),
        notes=tuple(_notes(old, new, other_host if speeds else "")),
        failures=(
            *_slowdowns(speeds, before, lost, max_slowdown),
            *_error_growths(errors, before, lost, max_error_growth),
            *_missing(require, before, after, lost),
        ),
    )


def render(comparison: Comparison, console: Console) -> None:
    """Prints a comparison; what changed is in colour, and in words."""
    from rich.markup import escape
    from rich.table import Table

    from exporter.commands.print_table import print_table

    console.print(f"[bold]{escape(comparison.model)}[/]: OLD against NEW")
    for note in comparison.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}")
    for name in comparison.gained:
        console.print(f"[green]gained[/] {escape(name)}")
    for name, why in comparison.lost:
        console.print(f"[red]lost[/] {escape(name)}: {escape(why)}")
    if comparison.speeds:
        table = Table(
            "engine", "batch", "old p50", "new p50", "old speedup", "new speedup",
            "old / new speedup", "95 %", "change",
        )  # fmt: skip
        for speed in comparison.speeds:
            table.add_row(
                escape(speed.engine),
                str(speed.batch),
                f"{speed.old_p50_ms:.3g} ms",
                f"{speed.new_p50_ms:.3g} ms",
                f"{speed.old_speedup:.3g}x",
                f"{speed.new_speedup:.3g}x",
                f"{speed.relative_time:.3f}",
                f"{speed.ci95[0]:.3f} to {speed.ci95[1]:.3f}",
                _coloured(speed.change) + ("" if speed.stable else " [yellow](unstable)[/]"),
            )
        print_table(table, console)
        console.print(
            "old / new speedup: the time it takes now over the time it took, each against the "
            "baseline of its own run; above 1 is slower. p50s of two runs differ with the machine.",
            style="dim",
        )
    if comparison.errors:
        table = Table("engine", "old rel_l2", "new rel_l2", "growth", "top-1", "change")
        for error in comparison.errors:
            table.add_row(
                escape(error.engine),
                f"{error.old_rel_l2:.2e}",
                f"{error.new_rel_l2:.2e}",
                f"{error.growth:+.1%}",
                f"{_percent(error.old_top1)} to {_percent(error.new_top1)}",
                _coloured(error.change),
            )
        print_table(table, console)
    for name, why in comparison.not_compared:
        console.print(f"[dim]not compared: {escape(name)}: {escape(why)}[/]")


def _timed(rows: Mapping[str, EngineRow]) -> set[str]:
    return {name for name, row in rows.items() if row.latencies}


def _with_error(rows: Mapping[str, EngineRow]) -> list[str]:
    return [
        name for name, row in rows.items() if row.rel_l2 is not None and math.isfinite(row.rel_l2)
    ]


def _lost(
    before: Mapping[str, EngineRow], after: Mapping[str, EngineRow], failures: Iterable[str]
) -> Iterable[tuple[str, str]]:
    for name, row in before.items():
        if name not in after:
            said = [f.removeprefix(f"{name}: ") for f in failures if f.startswith(f"{name}: ")]
            yield name, said[0] if said else "NEW has no such engine"
        elif after[name].rejected and not row.rejected:
            yield name, "rejected now: it failed a gate"


def _slowdowns(
    speeds: Iterable[SpeedChange],
    before: Mapping[str, EngineRow],
    lost: Iterable[tuple[str, str]],
    limit: float | None,
) -> Iterable[str]:
    if limit is None:
        return
    speeds = list(speeds)
    for speed in speeds:
        slower = speed.relative_time - 1
        if not speed.stable:
            yield (
                f"{speed.engine} at batch {speed.batch}: a timing that did not settle cannot be "
                "held to --max-slowdown; measure again on an idle machine (exporter benchmark DIR)"
            )
        if speed.change is Change.SLOWER and slower > limit:
            yield (
                f"{speed.engine} is {slower:.1%} slower at batch {speed.batch} "
                f"({speed.ci95[0] - 1:+.1%} to {speed.ci95[1] - 1:+.1%}), "
                f"limit {limit:.1%} (--max-slowdown)"
            )
    gone = dict(lost)
    compared = {(speed.engine, speed.batch) for speed in speeds}
    for name, row in before.items():
        batches = [t.batch for t in row.latencies if (name, t.batch) not in compared]
        if batches:
            why = gone.get(name, "NEW has no timing that compares")
            sizes = ", ".join(map(str, batches))
            yield f"{name} at batch {sizes} cannot be held to --max-slowdown: {why}"


def _error_growths(
    errors: Iterable[ErrorChange],
    before: Mapping[str, EngineRow],
    lost: Iterable[tuple[str, str]],
    limit: float | None,
) -> Iterable[str]:
    if limit is None:
        return
    errors = list(errors)
    for error in errors:
        if error.growth > limit:
            yield (
                f"{error.engine}'s relative error grew by {error.growth:.1%} "
                f"({error.old_rel_l2:.2e} to {error.new_rel_l2:.2e}), "
                f"limit {limit:.1%} (--max-error-growth)"
            )
    gone = dict(lost)
    compared = {error.engine for error in errors}
    for name in _with_error(before):
        if name not in compared:
            why = gone.get(name, "NEW has no error that compares")
            yield f"{name} cannot be held to --max-error-growth: {why}"


def _missing(
    require: Iterable[str],
    before: Mapping[str, EngineRow],
    after: Mapping[str, EngineRow],
    lost: Iterable[tuple[str, str]],
) -> Iterable[str]:
    gone = dict(lost)
    passed = [name for name, row in before.items() if not row.rejected]
    for name in dict.fromkeys(n for one in require for n in (passed if one == ALL else [one])):
        if name not in before and name not in after:
            raise unknown_name("engine", name, [*before, *after, ALL])
        if name in gone or after[name].rejected:
            yield f"{name} is lost (--require): {gone.get(name, 'it failed a gate')}"


def _notes(old: Rows, new: Rows, other_host: str) -> Iterable[str]:
    """What a reader must know before trusting the comparison."""
    if other_host:
        yield f"the hosts differ ({other_host}): speedups are each against its own host's baseline"
    versions = differences(old.versions, new.versions)
    if versions:
        yield f"versions: {versions}"
    if old.versions.get("torch") != new.versions.get("torch"):
        yield "the baseline is another PyTorch: a speedup moves with it though the engine does not"
    if old.weights_sha256 != new.weights_sha256:
        yield "the weights differ: errors are of two networks"
    if old.evaluation_sha256 != new.evaluation_sha256:
        yield "the evaluation inputs differ: errors are over two sets"


def _coloured(change: Change) -> str:
    bad = change in (Change.SLOWER, Change.LESS_ACCURATE)
    return str(change) if change is Change.SAME else f"[{'red' if bad else 'green'}]{change}[/]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
