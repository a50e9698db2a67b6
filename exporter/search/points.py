"""What was measured of one set of kept units, and the file that keeps it for an interrupted search.

A line is one JSON object: what is written is never changed, so that a search that was stopped, by
whatever, goes on where it was. A file that cannot be used costs the time to measure again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exporter.artifact import Skipped
from exporter.progress import Progress
from exporter.search.budget import Figures

Kept = tuple[str, ...]
"""Names of units in float, in the graph's order."""


@dataclass(frozen=True)
class Point:
    """One engine: the units that it keeps in float, its error, its time."""

    kept: Kept
    figures: Figures
    """On the inputs that guide the search."""
    ms: float
    """Of one inference: the all-INT8 engine's time by the ratio measured beside it."""


def front(points: list[Point]) -> tuple[Point, ...]:
    """Those that no other is both faster and nearer to the reference than, the fastest first."""
    best = math.inf
    found = []
    for point in sorted(points, key=lambda point: (point.ms, point.figures.error, point.kept)):
        if point.figures.error < best:
            best = point.figures.error
            found.append(point)
    return tuple(found)


class PointFile:
    """The points of one search, and its answers on held-out inputs, in a file of the cache."""

    def __init__(self, path: Path | None, progress: Progress) -> None:
        self._path = path
        self._progress = progress
        self.points: dict[Kept, Point] = {}
        self.timed_twice: set[Kept] = set()
        self.held_out: dict[Kept, Figures] = {}
        for line in filter(None, self._lines()):
            self._read(line)

    def add(self, point: Point) -> None:
        """Keeps a point; of one that is there the time was measured again."""
        self._put(point)
        figures = asdict(point.figures)
        self._append({"kept": point.kept, "ms": point.ms, "figures": figures})

    def _put(self, point: Point) -> None:
        if point.kept in self.points:
            self.timed_twice.add(point.kept)
        self.points[point.kept] = point

    def add_held_out(self, kept: Kept, figures: Figures) -> None:
        """Keeps what was found on held-out inputs."""
        self.held_out[kept] = figures
        self._append({"kept": kept, "held_out": asdict(figures)})

    def _lines(self) -> list[str]:
        try:
            return [] if self._path is None else self._path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return []

    def _read(self, line: str) -> None:
        try:
            entry = json.loads(line)
            kept = tuple(map(str, entry["kept"]))
            if "held_out" in entry:
                self.held_out[kept] = _figures(entry["held_out"])
            else:
                self._put(Point(kept, _figures(entry["figures"]), float(entry["ms"])))
        except (ValueError, TypeError, KeyError):
            return  # the line that an interruption cut: it is measured again

    def _append(self, entry: dict[str, Any]) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(entry))  # behind a line that was cut, too
        except OSError as error:
            self._progress.note(
                f"an interrupted search would start again: {self._path.parent} cannot be written "
                f"({error.strerror or error})"
            )
            self._path = None


def _figures(entry: Mapping[str, Any]) -> Figures:
    return Figures(
        rel_l2=float(entry["rel_l2"]),
        sqnr_db=float(entry["sqnr_db"]),
        agreement=_or_skipped(entry["agreement"]),
        drop=_or_skipped(entry["drop"]),
    )


def _or_skipped(value: Any) -> float | Skipped:
    return Skipped(value["skipped"]) if isinstance(value, dict) else float(value)
