"""On a Ray cluster: an actor for each slot of cores, which asks for the next part when it is free.

An actor that dies, or its node, gives its part back; whoever is free does it. A part counts when
its whole answer is here, and once.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Protocol, TypeVar

from exporter.cluster.job import BATCH, Job
from exporter.errors import ExporterError, MissingDependencyError, UsageError, install_command
from exporter.images.sources.source import Part, batches
from exporter.progress import Advance

R = TypeVar("R")

ANSWERS_WITHIN_S: Final = 10
"""A cluster that takes longer to say that it is there is none."""
_TRIES: Final = 3
"""Actors that die over one part: then it is the part, not the machine."""


class Wanted(Protocol):
    """What an actor is given."""

    @property
    def threads(self) -> int:
        """Cores of an actor."""
        ...

    @property
    def workers(self) -> int | None:
        """Actors; None: as many as the cluster has room for."""
        ...


class Actor:
    """Runs in a process of the cluster: the job's engine, loaded once."""

    def __init__(self, job: Job[Any]) -> None:
        self._stack = ExitStack()
        self._work = self._stack.enter_context(job.opened())

    def answer(self, part: Part) -> list[Any] | ExporterError:
        """What the job answers to each batch; an error of ours as a value, Ray would wrap it."""
        try:
            return [self._work(batch) for batch in batches(part, BATCH)]
        except ExporterError as error:
            return error


def run_on(
    address: str,
    job: Job[R],
    parts: Sequence[tuple[int, Part]],
    wanted: Wanted,
    advance: Advance,
    note: Callable[[str], None],
) -> Iterator[tuple[int, list[R]]]:
    """What the job answers to each numbered part's batches, in any order.

    Raises:
        MissingDependencyError: Ray is not installed.
        UsageError: no cluster answers at the address, or all of its actors died.
        ExporterError: what the job raises.
    """
    with _connected(address) as ray:
        yield from _shared_out(ray, job, parts, wanted, advance, note)


def _shared_out(
    ray: Any,
    job: Job[R],
    parts: Sequence[tuple[int, Part]],
    wanted: Wanted,
    advance: Advance,
    note: Callable[[str], None],
) -> Iterator[tuple[int, list[R]]]:
    kept = ray.put(job)
    # No restarts: what was lost is given to whoever is free, and told.
    make = ray.remote(max_restarts=0, max_task_retries=0, num_cpus=wanted.threads)(Actor)
    idle = [make.remote(kept) for _ in range(min(len(parts), _slots(ray, wanted)))]
    actors = len(idle)
    waiting = list(reversed(parts))
    given: dict[Any, tuple[int, Part, Any]] = {}
    again: dict[int, int] = {}
    while waiting or given:
        while waiting and idle:
            number, part = waiting.pop()
            actor = idle.pop()
            given[actor.answer.remote(part)] = (number, part, actor)
        (ready,), _ = ray.wait(list(given), num_returns=1)
        number, part, actor = given.pop(ready)
        try:
            found = ray.get(ready)
        except ray.exceptions.RayActorError as error:
            actors -= 1
            again[number] = again.get(number, 0) + 1
            waiting.append((number, part))
            _check_lost(error, actors, again[number], number)
            continue
        except ray.exceptions.RayError:  # the answer went with its node
            again[number] = again.get(number, 0) + 1
            waiting.append((number, part))
            idle.append(actor)
            _check_lost(None, actors, again[number], number)
            continue
        if isinstance(found, ExporterError):
            raise found
        idle.append(actor)
        advance(part.count or 0)
        yield number, found
    if again:
        note(
            f"{sum(again.values())} parts were done again, for workers that were lost "
            f"(numbers {', '.join(map(str, sorted(again)))}); each counts once"
        )


def _check_lost(error: Exception | None, actors: int, times: int, number: int) -> None:
    """Refuses to go on where nobody is left, or one part kills whoever does it."""
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ExporterError):
        raise cause
    if times >= _TRIES:
        raise UsageError(
            f"part {number} was lost with {times} workers of the cluster, one after the other; "
            "look at their memory, and at `ray status`"
        )
    if not actors:
        said = " ".join(str(error).split())[:300]
        raise UsageError(f"every worker of the cluster was lost ({said}); see `ray status`")


def _slots(ray: Any, wanted: Wanted) -> int:
    """Actors that the nodes have room for: no actor is spread over two."""
    cores = [
        int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]
    ]  # fmt: skip
    room = sum(count // wanted.threads for count in cores)
    if not room:
        raise UsageError(
            f"no node of the cluster has {wanted.threads} cores (they have "
            f"{', '.join(map(str, cores)) or 'none'}); give fewer --threads"
        )
    return min(room, wanted.workers or room)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"--on {address} needs Ray, which is not installed; run: {install_command('ray')}"
        ) from None
    _check_answers(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray's, gRPC's and the system's own
        raise UsageError(f"--on {address}: {' '.join(str(error).split())[:300]}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Refuses an address where no cluster answers in time; Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal()) or "/" in host:
        raise UsageError(f"--on {address!r}: give the address of a Ray cluster, HOST:PORT")
    nobody = UsageError(
        f"--on {address}: no Ray cluster answers there within {ANSWERS_WITHIN_S} s; start one "
        "with `ray start --head`, or leave --on out"
    )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=4).close()
    except (OSError, OverflowError):
        raise nobody from None
    asked = [
        sys.executable,
        "-P",
        "-m",
        "ray.scripts.scripts",
        "health-check",
        "--address",
        address,
    ]
    try:
        done = subprocess.run(asked, capture_output=True, timeout=ANSWERS_WITHIN_S - 4, check=False)
    except subprocess.TimeoutExpired:
        raise nobody from None
    if done.returncode:
        raise nobody
