"""On this machine: threads that decode and compute, each with an engine of its own.

Those of a GPU share one, which is loaded once. One thread reads ahead, as far as there is work in
hand. Pillow and the runtimes let go of Python's lock, so whatever is to be done next, decoding or
computing, all cores do it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from exporter.cluster.job import BATCH, Job
from exporter.images.sources.source import Encoded, Part, batches
from exporter.progress import Advance

R = TypeVar("R")

_IN_HAND: Final = 3
"""Batches that wait or are worked on, for each thread: what bounds the memory."""


def run_here(
    job: Job[R], parts: Sequence[tuple[int, Part]], workers: int, advance: Advance
) -> Iterator[tuple[int, list[R]]]:
    """What the job answers to each numbered part's batches, in order."""
    with job.opened(workers) as work:
        yield from answers(work, parts, workers, advance)


def answers(
    work: Callable[[tuple[Encoded, ...]], R],
    parts: Sequence[tuple[int, Part]],
    workers: int,
    advance: Advance,
) -> Iterator[tuple[int, list[R]]]:
    """The same of a job that is open for so many workers."""
    of_part: list[R] = []
    number: int | None = None
    for at, count, answer in _each(work, parts, workers):
        if number is not None and at != number:
            yield number, of_part
            of_part = []
        number = at
        of_part.append(answer)
        advance(count)
    if number is not None:
        yield number, of_part


def _each(
    work: Callable[[tuple[Encoded, ...]], R], parts: Sequence[tuple[int, Part]], workers: int
) -> Iterator[tuple[int, int, R]]:
    """(part, pictures, answer) of each batch, in order."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            in_hand: deque[tuple[int, int, Future[R]]] = deque()
            for number, part in parts:
                for batch in batches(part, BATCH):
                    in_hand.append((number, len(batch), pool.submit(work, batch)))
                    while in_hand and (len(in_hand) >= _IN_HAND * workers or in_hand[0][2].done()):
                        yield _next(in_hand)
            while in_hand:
                yield _next(in_hand)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _next(in_hand: deque[tuple[int, int, Future[R]]]) -> tuple[int, int, R]:
    number, count, future = in_hand.popleft()
    return number, count, future.result()
