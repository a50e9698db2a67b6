"""Two sweeps side by side: each build that both have, as `compare.py` compares two builds.

A build is the same one where its model and its hardware have the same names in both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.builds.codec import json_text
from exporter.builds.compare_request import CompareRequest
from exporter.commands import compare as comparing
from exporter.commands.compare import ALL, Comparison
from exporter.errors import InputError, UsageError, unknown_name
from exporter.fleet.files import RECORD, from_json
from exporter.fleet.record import KIND, SweepRecord
from exporter.report.flat import FlatReport, Rows

if TYPE_CHECKING:
    from rich.console import Console

Pair = tuple[str, str]
"""Model and hardware."""


@dataclass(frozen=True)
class PairComparison:
    """What changed of one model on one kind of machine."""

    model: str
    hardware: str
    comparison: Comparison


@dataclass(frozen=True)
class SweepComparison:
    """What changed from the sweep OLD to NEW."""

    pairs: tuple[PairComparison, ...]
    gained: tuple[Pair, ...]
    lost: tuple[tuple[str, str, str], ...]
    """(model, hardware, why)."""
    failures: tuple[str, ...]
    """Each limit that was passed, in words; the command then ends with exit code 1."""

    def to_json(self) -> str:
        """The same, for programs."""
        return json_text(self)


def compare_paths(request: CompareRequest) -> Comparison | SweepComparison:
    """Compares two builds, or two sweeps.

    Raises:
        InputError: nothing there, or what is there cannot be read.
        UsageError: one is a sweep and the other none, or see `compare`.
    """
    old, new = _sweep_at(request.old), _sweep_at(request.new)
    if old is None and new is None:
        builds = comparing.load(request.old), comparing.load(request.new)
        return _compared(*builds, request, request.require)
    if old is None or new is None:
        one, other = ("OLD", "NEW") if new is None else ("NEW", "OLD")
        raise UsageError(f"{one} is a sweep and {other} is none; compare two sweeps or two builds")
    return compare_sweeps(old, new, request)


def compare_sweeps(old: SweepRecord, new: SweepRecord, request: CompareRequest) -> SweepComparison:
    """Compares what both have.

    Raises:
        UsageError: they have no model on hardware in common, or see `compare`.
    """
    before, after = _reports(old), _reports(new)
    common = [pair for pair in before if pair in after]
    if not common:
        raise UsageError(
            f"the sweeps have no model on hardware in common: OLD has {_listed(before)}, NEW has "
            f"{_listed(after)}"
        )
    _check_known(request.require, before, after)
    pairs = []
    for model, hardware in common:
        sides = before[model, hardware], after[model, hardware]
        known = {ALL, *(engine.id for side in sides for engine in side.engines)}
        require = tuple(name for name in request.require if name in known)
        try:
            comparison = _compared(*sides, request, require)
        except UsageError as error:
            raise UsageError(f"{model} on {hardware}: {error}") from None
        pairs.append(PairComparison(model, hardware, comparison))
    lost = tuple((*pair, _why_lost(pair, new)) for pair in before if pair not in after)
    return SweepComparison(
        tuple(pairs),
        tuple(pair for pair in after if pair not in before),
        lost,
        tuple(_failures(pairs, lost, request)),
    )


def _failures(
    pairs: list[PairComparison], lost: tuple[tuple[str, str, str], ...], request: CompareRequest
) -> Iterator[str]:
    for pair in pairs:
        for failure in pair.comparison.failures:
            yield f"{pair.model} on {pair.hardware}: {failure}"
    limits = (request.max_slowdown, request.max_error_growth, request.require or None)
    if any(limit is not None for limit in limits):
        for model, hardware, why in lost:
            yield f"{model} on {hardware} is lost, so it keeps no limit: {why}"


def _compared(
    old: Rows, new: Rows, request: CompareRequest, require: tuple[str, ...]
) -> Comparison:
    return comparing.compare(
        old,
        new,
        max_slowdown=request.max_slowdown,
        max_error_growth=request.max_error_growth,
        require=require,
        allow_other_host=request.allow_other_host,
    )


def _reports(sweep: SweepRecord) -> dict[Pair, FlatReport]:
    return {(build.model, build.hardware): build.report for build in sweep.builds}


def _check_known(
    require: tuple[str, ...], before: Mapping[Pair, FlatReport], after: Mapping[Pair, FlatReport]
) -> None:
    known = {
        engine.id
        for side in (before, after)
        for report in side.values()
        for engine in report.engines
    }
    for name in require:
        if name not in known | {ALL}:
            raise unknown_name("engine", name, [*known, ALL])


def _why_lost(pair: Pair, new: SweepRecord) -> str:
    failed = {(one.model, one.hardware): one.reason for one in new.failed}
    return failed.get(pair, "NEW has no such build")


def _listed(pairs: Mapping[Pair, FlatReport]) -> str:
    return ", ".join(f"{model} on {hardware}" for model, hardware in pairs) or "no build"


def _sweep_at(path: Path) -> SweepRecord | None:
    """The sweep in a folder or a file; None: it holds something else."""
    file = path / RECORD if path.is_dir() else path
    if not file.is_file() or file.suffix != ".json":
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError):
        if file.name == RECORD:
            raise InputError(f"{file} is not valid JSON; run the sweep again") from None
        return None  # another reader says what is wrong with it
    if not isinstance(content, dict) or content.get("kind") != KIND:
        return None
    return from_json(content, str(file))


def render(comparison: Comparison | SweepComparison, console: Console) -> None:
    """Prints a comparison; of sweeps, one after the other."""
    if isinstance(comparison, Comparison):
        comparing.render(comparison, console)
        return
    for pair in comparison.pairs:
        console.print(f"on {pair.hardware}", style="bold", markup=False, soft_wrap=True)
        comparing.render(pair.comparison, console)
    for model, hardware in comparison.gained:
        console.print(f"gained {model} on {hardware}", markup=False, soft_wrap=True)
    for model, hardware, why in comparison.lost:
        console.print(f"lost {model} on {hardware}: {why}", markup=False, soft_wrap=True)
