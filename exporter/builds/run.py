"""One run of the pipeline: what was asked for, where it goes, who is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter import host
from exporter.builds.folder import BuildFolder
from exporter.builds.request import ExportRequest
from exporter.measure.timing import Conditions
from exporter.progress import Clock, Progress


@dataclass(frozen=True)
class Run:
    """What all steps of one export share."""

    request: ExportRequest
    folder: BuildFolder
    scratch: Path
    """Inside the folder; gone when the run is over."""
    clock: Clock
    progress: Progress

    @property
    def conditions(self) -> Conditions:
        """How the engines are measured, defaults filled in."""
        return Conditions(
            threads=self.request.threads or host.usable_threads(),
            rounds=self.request.rounds,
            seed=self.request.seed,
            batches=self.request.batches,
        )
