"""Who does a sweep's jobs: this machine, or a Ray cluster's nodes, one job at a time on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from exporter import host
from exporter.cluster.nodes import living_nodes
from exporter.cluster.whole_nodes import Lost, Task, asked_each, done_alone
from exporter.fleet.hardware import Kind, Node
from exporter.fleet.jobs import Job
from exporter.progress import Progress

Work = Callable[[Job], str | None]
"""Does a job; None, or why it failed. It travels to a node as it is."""
Jobs = Sequence[tuple[Job, Kind]]
Done = Iterator[tuple[Job, str | None]]


class Machines(Protocol):
    """The nodes, and what does a job on one of them."""

    nodes: tuple[Node, ...]

    def done(self, jobs: Jobs, work: Work, progress: Progress) -> Done:
        """Each job as it ends, with why it failed, on a node that is its kind of machine."""
        ...


class _Here:
    """This machine alone."""

    def __init__(self) -> None:
        here = Node("here", "this machine", host.describe_host(), {})
        self.nodes: tuple[Node, ...] = (here,)

    def done(self, jobs: Jobs, work: Work, progress: Progress) -> Done:
        """One after the other."""
        for job, _ in jobs:
            with progress.stage(f"{job.model} on {job.hardware}"):
                problem = work(job)
            yield job, problem


class _Cluster:
    """A Ray cluster's nodes, each doing one job at a time and nothing else."""

    def __init__(self, ray: Any, progress: Progress) -> None:
        self._ray = ray
        self._ray_nodes = living_nodes(ray)
        nodes = []
        answers = asked_each(ray, self._ray_nodes, host.describe_host)
        for node, found in zip(self._ray_nodes, answers, strict=True):
            if isinstance(found, Lost):
                progress.note(f"node {node.address} is left out: {found.reason}")
            else:
                nodes.append(Node(node.id, node.address, found, node.labels))
        self.nodes = tuple(nodes)

    def done(self, jobs: Jobs, work: Work, progress: Progress) -> Done:
        """As nodes are free."""
        tasks = [Task(job, [node.id for node in kind.nodes]) for job, kind in jobs]

        def given(job: Job, address: str) -> None:
            progress.detail(f"{job.model} on {job.hardware} goes to {address}")

        for job, found in done_alone(self._ray, self._ray_nodes, tasks, work, given, progress.note):
            yield job, found.reason if isinstance(found, Lost) else found


@contextmanager
def machines(on: str | None, progress: Progress) -> Iterator[Machines]:
    """The nodes of the cluster at an address; without one this machine.

    Raises:
        MissingDependencyError: Ray is not installed.
        UsageError: no cluster answers at the address.
    """
    if on is None:
        yield _Here()
        return
    from exporter.cluster.connection import connected

    with connected(on) as ray:
        yield _Cluster(ray, progress)
