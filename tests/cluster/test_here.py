"""On this machine's threads: in order, and in bounded memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from exporter.cluster.here import run_here
from exporter.images.sources.source import Encoded, Part

Batch = tuple[Encoded, ...]


@dataclass
class Counting:
    """A part that knows how many of its pictures were read."""

    pictures_in_it: int
    read: int = 0

    @property
    def count(self) -> int:
        return self.pictures_in_it

    def pictures(self) -> Iterator[Encoded]:
        for number in range(self.pictures_in_it):
            self.read += 1
            yield Encoded(str(number), b"x")


@dataclass
class Naming:
    """Answers the names, some batches later than others."""

    fails_at: str = ""
    on_gpu: bool = False
    opened_times: int = 0
    closed_times: int = 0
    workers: int = 0
    done: int = 0
    most_ahead: int = 0
    watched: Counting | None = None

    @contextmanager
    def opened(self, workers: int) -> Iterator[Callable[[Batch], list[str]]]:
        self.workers = workers
        self.opened_times += 1

        def work(batch: Batch) -> list[str]:
            time.sleep(0.001 * (len(batch[0].name) % 2))
            if self.fails_at == batch[0].name:
                raise ValueError("broken")
            self.done += len(batch)
            if self.watched is not None:
                self.most_ahead = max(self.most_ahead, self.watched.read - self.done)
            return [one.name for one in batch]

        try:
            yield work
        finally:
            self.closed_times += 1


def test_answers_come_in_the_parts_order() -> None:
    job, advanced = Naming(), list[int]()
    parts: list[tuple[int, Part]] = [(3, Counting(20)), (5, Counting(1)), (9, Counting(17))]
    found = list(run_here(job, parts, 3, advanced.append))
    assert [number for number, _ in found] == [3, 5, 9]
    assert [[name for batch in some for name in batch] for _, some in found] == [
        [str(number) for number in range(part.count or 0)] for _, part in parts
    ]
    assert sum(advanced) == 38
    assert (job.opened_times, job.closed_times, threading.active_count()) == (1, 1, 1)
    assert job.workers == 3


def test_it_reads_ahead_a_few_batches_and_no_more() -> None:
    part = Counting(800)
    job = Naming(watched=part)
    assert len(list(run_here(job, [(0, part)], 2, lambda _: None))) == 1
    assert job.most_ahead <= 8 * (3 * 2 + 2)


def test_an_error_ends_it_and_closes_the_job() -> None:
    job = Naming(fails_at="16")
    part = Counting(8000)
    with pytest.raises(ValueError, match="broken"):
        list(run_here(job, [(0, part)], 2, lambda _: None))
    assert part.read < 200
    assert (job.opened_times, job.closed_times) == (1, 1)
