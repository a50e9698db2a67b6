"""On a Ray cluster: an actor for each slot (cores, or a GPU), which does part after part.

An actor that dies, or its node, gives its part back; whoever is free does it. A part counts when
its whole answer is here, and once.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final, Protocol, TypeVar

from exporter.cluster.connection import connected
from exporter.cluster.here import answers
from exporter.cluster.job import PlacedJob
from exporter.cluster.nodes import living_nodes, share_of, slots_of
from exporter.errors import ExporterError, UsageError
from exporter.images.sources.source import Part
from exporter.progress import Advance
from exporter.runtime.errors import reason_of

R = TypeVar("R")

_ROOM_WITHIN_S: Final = 60
_TRIES: Final = 3
"""Actors that die over one part: then it is the part, not the machine."""


class Wanted(Protocol):
    """What an actor is given."""

    @property
    def threads(self) -> int:
        """Cores of a batch: of an actor, which has several batches in hand on a GPU alone."""
        ...

    @property
    def workers(self) -> int | None:
        """Actors; None: as many as the cluster has room for."""
        ...


class Actor:
    """Runs in a process of the cluster: the job's engine, loaded once.

    An error of ours is an answer: what is raised, Ray would wrap.
    """

    def __init__(self, job: PlacedJob[Any], workers: int) -> None:
        self._job = job
        self._workers = workers
        self._stack = ExitStack()
        self._work: Any = None

    def ready(self) -> ExporterError | None:
        """Loads the engine; why it does not load here, and which machine that is."""
        try:
            self._work = self._stack.enter_context(self._job.opened(self._workers))
        except ExporterError as error:
            error.args = (f"{platform.node()}: {error}",)
            return error
        return None

    def answer(self, part: Part) -> tuple[int, list[Any]] | ExporterError:
        """How many pictures the part has, and what the job answers to each batch."""
        counts: list[int] = []
        try:
            found = list(answers(self._work, [(0, part)], self._workers, counts.append))
        except ExporterError as error:
            return error
        return sum(counts), found[0][1] if found else []


def run_on(
    address: str,
    job: PlacedJob[R],
    parts: Sequence[tuple[int, Part]],
    wanted: Wanted,
    advance: Advance,
    note: Callable[[str], None],
) -> Iterator[tuple[int, list[R]]]:
    """What the job answers to each numbered part's batches, in any order.

    Raises:
        MissingDependencyError: Ray is not installed.
        UsageError: no cluster answers at the address, it has no room for an actor, or all died.
        ExporterError: what the job raises.
    """
    with connected(address) as ray:
        yield from _shared_out(ray, job, parts, wanted, advance, note)


def _shared_out(
    ray: Any,
    job: PlacedJob[R],
    parts: Sequence[tuple[int, Part]],
    wanted: Wanted,
    advance: Advance,
    note: Callable[[str], None],
) -> Iterator[tuple[int, list[R]]]:
    kept = ray.put(job)
    # No restarts: what was lost is given to whoever is free, and told.
    # Of several GPUs an actor sees its own alone: Ray sets CUDA_VISIBLE_DEVICES.
    nodes = living_nodes(ray)
    share = share_of(nodes, wanted.threads, on_gpu=job.on_gpu)
    slots = slots_of(nodes, share, wanted.workers)
    make = ray.remote(
        max_restarts=0, max_task_retries=0, num_cpus=share.cores, num_gpus=share.gpus
    )(Actor)
    workers = share.cores // wanted.threads
    actors = {make.remote(kept, workers) for _ in range(min(len(parts), slots))}
    waiting = list(reversed(parts))
    # An actor gets a part once it is ready: it may wait for room on the cluster for ever.
    asked: dict[Any, tuple[Any, tuple[int, Part] | None]] = {
        actor.ready.remote(): (actor, None) for actor in actors
    }
    again: dict[int, int] = {}
    said = False
    while waiting or any(given for _, given in asked.values()):
        done, _ = ray.wait(list(asked), num_returns=1, timeout=_ROOM_WITHIN_S)
        if not done:
            if not said and all(given is None for _, given in asked.values()):
                note("the cluster has no room for a worker yet; waiting for it (`ray status`)")
                said = True
            continue
        actor, given = asked.pop(done[0])
        try:
            found = ray.get(done[0])
        except ray.exceptions.RayError as error:  # the actor died, or its answer with its node
            actors.discard(actor)
            if given is not None:
                again[given[0]] = again.get(given[0], 0) + 1
                waiting.append(given)
                _check_part(given[0], again[given[0]])
            if not actors:
                reason = reason_of(error, 300)
                raise UsageError(
                    f"every worker of the cluster was lost ({reason}); see `ray status`"
                ) from None
            _give(actors, asked, waiting)
            continue
        if isinstance(found, ExporterError):
            raise found
        if given is not None:
            advance(found[0])
            yield given[0], found[1]
        _give({actor}, asked, waiting)
    if again:
        times = sum(again.values())
        note(
            f"{times} {'part was' if times == 1 else 'parts were'} done again, for workers that "
            f"were lost (numbers {', '.join(map(str, sorted(again)))}); each counts once"
        )


def _give(
    actors: set[Any], asked: dict[Any, tuple[Any, tuple[int, Part] | None]],
    waiting: list[tuple[int, Part]],
) -> None:  # fmt: skip
    """A part for each of these actors that has nothing to do."""
    busy = {id(actor) for actor, _ in asked.values()}
    for actor in actors:
        if waiting and id(actor) not in busy:
            given = waiting.pop()
            asked[actor.answer.remote(given[1])] = (actor, given)


def _check_part(number: int, times: int) -> None:
    """Refuses to go on where one part kills whoever does it."""
    if times >= _TRIES:
        raise UsageError(
            f"part {number} was lost with {times} workers of the cluster, one after the other; "
            "look at their memory, and at `ray status`"
        )
