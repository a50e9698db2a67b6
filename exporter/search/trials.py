"""Sets of kept units, each built, run and timed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final, Protocol

from exporter.prove.parity import rows_from
from exporter.prove.reference import Reference, run_all
from exporter.search.budget import Figures, figures_of
from exporter.search.points import Kept, Point, PointFile
from exporter.search.split import Split
from exporter.search.times import Times
from exporter.targets import Target

STARTS_AGAIN: Final = 3
"""Processes in which a set is timed that a decision hangs on."""


class Engines(Protocol):
    """The engines of one target that differ in which units they keep in float."""

    @property
    def target(self) -> Target:
        """What builds and opens them."""
        ...

    def built(self, kept: Kept) -> Path:
        """Builds one, in the place of the one before; raises BuildError where there is none."""
        ...


class Trials:
    """What is known of each set that was tried, from this run or one before."""

    def __init__(
        self,
        units: Sequence[str],
        engines: Engines,
        split: Split,
        times: Times,
        file: PointFile,
        threads: int,
    ) -> None:
        self.units = tuple(units)
        self._engines = engines
        self._split = split
        self._times = times
        self._file = file
        self._threads = threads

    def at(self, units: Iterable[str]) -> Point:
        """The engine that keeps these units in float.

        Raises:
            BuildError: it cannot be built, run or timed.
        """
        kept = self.in_order(units)
        if kept not in self._file.points:
            engine = self._engines.built(kept)
            figures = self._figures(engine, self._split.searched)
            self._file.add(Point(kept, figures, self._ms(kept, engine)))
        return self._file.points[kept]

    def timed_again(self, kept: Kept) -> Point:
        """The same with its time measured again in STARTS_AGAIN processes, whose median it becomes.

        Of many times that were measured once, the shortest is the luckiest.
        """
        point = self.at(kept)
        if kept and kept not in self._file.timed_twice:
            # A process may be lucky throughout, by where its memory lies.
            starts = [self._ms(kept, self._engines.built(kept)) for _ in range(STARTS_AGAIN)]
            self._file.add(replace(point, ms=median(starts)))
        return self._file.points[kept]

    def held_out(self, kept: Kept) -> Figures:
        """The same engine's answers to inputs that guide nothing.

        Raises:
            BuildError: it cannot be built or run.
        """
        if kept not in self._file.held_out:
            figures = self._figures(self._engines.built(kept), self._split.held_out)
            self._file.add_held_out(kept, figures)
        return self._file.held_out[kept]

    @property
    def points(self) -> list[Point]:
        """All that are known."""
        return list(self._file.points.values())

    def in_order(self, units: Iterable[str]) -> Kept:
        """Units in the graph's order, which names a set."""
        chosen = set(units)
        return tuple(unit for unit in self.units if unit in chosen)

    def _ms(self, kept: Kept, engine: Path) -> float:
        """The all-INT8 engine is timed once; all others count by their ratio to it."""
        if not kept:
            return self._times.base_ms()
        return self.at(()).ms * self._times.ratio(kept, engine)

    def _figures(self, engine: Path, reference: Reference) -> Figures:
        with self._engines.target.open(engine, self._threads) as session:
            run = rows_from(session, reference)
            outputs = run_all(run, reference.inputs, reference.fixed_batch)
        return figures_of(outputs, reference)
