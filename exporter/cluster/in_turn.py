"""Functions that do the same, each for one thread at a time: an engine loaded more than once."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class InTurn(Generic[A, R]):
    """Calls whichever is idle, and waits for one where none is."""

    def __init__(self, functions: Iterable[Callable[[A], R]]) -> None:
        self._idle: queue.SimpleQueue[Callable[[A], R]] = queue.SimpleQueue()
        for one in functions:
            self._idle.put(one)

    def __call__(self, given: A) -> R:
        """For any number of threads."""
        function = self._idle.get()
        try:
            return function(given)
        finally:
            self._idle.put(function)


def made_in_turn(make: Callable[[], Callable[[A], R]], count: int) -> InTurn[A, R]:
    """So many, made side by side: what is loaded is mostly waited for."""
    with ThreadPoolExecutor(count) as pool:
        return InTurn(pool.map(lambda _: make(), range(count)))
