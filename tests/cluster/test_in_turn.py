"""Engines that are loaded more than once: each is one thread's at a time."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from exporter.cluster.in_turn import InTurn, made_in_turn


def test_each_is_one_threads_at_a_time_and_all_work() -> None:
    together, used = threading.Barrier(2, timeout=30), set[int]()
    numbers = itertools.count()

    def make() -> Callable[[int], int]:
        own, busy = next(numbers), threading.Lock()

        def work(given: int) -> int:
            assert busy.acquire(blocking=False), "two threads use one"
            together.wait()  # for the other one, so both are at work
            used.add(own)
            busy.release()
            return 2 * given

        return work

    functions = made_in_turn(make, 2)
    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(functions, range(20))) == [2 * given for given in range(20)]
    assert used == {0, 1}


def test_one_that_fails_is_there_for_the_next() -> None:
    inverse = InTurn([lambda given: 1 / given])
    with pytest.raises(ZeroDivisionError):
        inverse(0)
    assert inverse(4) == 0.25


def test_what_cannot_be_made_is_raised() -> None:
    def make() -> Callable[[int], int]:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        made_in_turn(make, 3)
