"""What keeping blocks in float costs: an engine's time, measured beside the all-INT8 engine's.

As in `measure/interleaved.py`, each of the two is in a process of its own, they take turns, and the
one that waits is stopped. What counts is the median over the rounds of the ratio of the two, so a
machine that slows down in the course of a search makes no set look slow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final, Protocol

from exporter.artifact import TensorSpec
from exporter.measure.interleaved import inputs_of
from exporter.measure.process import WorkerProcess
from exporter.measure.statistics import round_request
from exporter.measure.timing import Conditions
from exporter.search.points import Kept
from exporter.targets import MachineKind

ROUNDS: Final = 7
"""Pairs of turns for each set."""


class Times(Protocol):
    """Tells how long engines take."""

    def base_ms(self) -> float:
        """One inference of the all-INT8 engine."""
        ...

    def ratio(self, kept: Kept, engine: Path) -> float:
        """One inference of the engine that keeps these units in float, over the all-INT8 one's."""
        ...


class PairedTimes:
    """Times engines of one target against one of them, `base`; a context manager."""

    def __init__(
        self,
        target: str,
        base: Callable[[], Path],
        inputs: tuple[TensorSpec, ...],
        conditions: Conditions,
    ) -> None:
        """`base` builds that one, where a set was not timed before.

        `inputs` are the network's; the first batch size of `conditions` is timed.
        """
        given = inputs[0]
        fixed = given.shape[0]
        self._batch = fixed if isinstance(fixed, int) else conditions.batches[0]
        self._job: dict[str, Any] = {
            "kind": "engine",
            "target": target,
            "threads": conditions.threads,
            "shape": given.shape[1:],
            "dtype": given.dtype,
            "inputs": inputs_of(given, inputs[1:]),
            "seed": conditions.seed,
            "device": MachineKind.CPU,
        }
        self._build_base = base
        self._stack = ExitStack()

    def __enter__(self) -> PairedTimes:
        folder = tempfile.TemporaryDirectory(prefix="exporter-search-")
        self._folder = Path(self._stack.enter_context(folder))
        self._base: WorkerProcess | None = None
        self._base_s = 0.0
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def base_ms(self) -> float:
        """Raises BuildError where the process fails."""
        self._started()
        return 1e3 * self._base_s

    def ratio(self, kept: Kept, engine: Path) -> float:  # noqa: ARG002 - of the protocol
        """Raises BuildError where a process fails."""
        base = self._started()
        with WorkerProcess("candidate", self._folder) as candidate:
            own_s = self._load(candidate, engine)
            ratios: list[float] = []
            for turn in range(ROUNDS):
                pair = [(base, self._base_s), (candidate, own_s)]
                found = {
                    worker: median(worker.ask(round_request(once))["samples_s"])
                    for worker, once in (pair if turn % 2 else pair[::-1])
                }
                ratios.append(found[candidate] / found[base])
        return float(median(ratios))

    def _started(self) -> WorkerProcess:
        """The all-INT8 engine's process, once something is to be timed."""
        if self._base is None:
            base = self._stack.enter_context(WorkerProcess("base", self._folder))
            self._base_s = self._load(base, self._build_base())
            self._base = base
        return self._base

    def _load(self, worker: WorkerProcess, engine: Path) -> float:
        """The median of an inference, in seconds, once it no longer falls."""
        worker.send(self._job | {"path": str(engine)})
        worker.receive()
        warm: float = worker.ask({"warm_up": self._batch})["median_s"]
        return warm
