"""Many threads that ask one engine at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from exporter.runtime import Engine
from tests.graphs import Array

CALLERS = 16


def wrong_answers(engine: Engine, images: Array, expected: Array, calls: int) -> list[str]:
    """What sixteen threads at once got that was not the answer to their own 1 to 4 images."""
    wrong: list[str] = []
    start = threading.Barrier(CALLERS)

    def ask(seed: int) -> None:
        order = np.random.default_rng(seed)
        start.wait()
        for _ in range(calls):
            chosen = order.integers(0, len(images), order.integers(1, 5))
            if np.abs(engine(images[chosen]) - expected[chosen]).max() > 1e-4:
                wrong.append(f"thread {seed}: {chosen}")

    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(ask, range(CALLERS)))
    return wrong
