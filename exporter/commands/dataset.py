"""What `exporter evaluate` and `classify` share: the pictures, who answers them, and progress."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from exporter import host
from exporter.builds.dataset_request import DatasetRequest
from exporter.cluster.here import run_here
from exporter.cluster.job import PlacedJob
from exporter.images.sources.opening import open_source
from exporter.images.sources.parquet import Columns
from exporter.images.sources.source import Part, Source
from exporter.progress import Progress

R = TypeVar("R")


def pictures_of(request: DatasetRequest, progress: Progress) -> Source:
    """The pictures of a request; what the user should know of them is noted.

    Raises:
        UsageError: see `open_source`.
    """
    columns = Columns(request.image_column, request.label_column, request.path_column)
    with progress.stage("find the pictures"):
        source = open_source(request.data, columns)
    for note in source.notes:
        progress.note(f"{source.name}: {note}")
    return source


def answered(
    job: PlacedJob[R], source: Source, parts: Sequence[tuple[int, Part]], request: DatasetRequest,
    progress: Progress,
) -> Iterator[tuple[int, list[R]]]:  # fmt: skip
    """(number, answers) of each part, in any order; with images a second and the time left.

    Raises:
        UsageError: no cluster is there.
        ExporterError: what the job raises.
    """
    counts = [part.count for _, part in parts]
    known = [count for count in counts if count is not None]
    total = sum(known) if len(known) == len(counts) else None
    start, done = time.perf_counter(), 0
    title = f"answer {source.name}"
    with progress.stage(title, total) as advance:

        def advanced(count: int) -> None:
            nonlocal done
            done += count
            rate = done / max(time.perf_counter() - start, 1e-9)
            left = "" if total is None else f", {_minutes((total - done) / rate)} left"
            progress.detail(f"{title}: {rate:.0f} images/s{left}")
            advance(count)

        if request.on is None:
            workers = request.workers or max(1, host.usable_threads() // request.threads)
            yield from run_here(job, parts, workers, advanced)
        else:
            from exporter.cluster.on_ray import run_on

            yield from run_on(request.on, job, parts, request, advanced, progress.note)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
