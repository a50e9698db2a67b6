"""Work that takes a whole node of a Ray cluster: one task at a time there, and nobody beside it.

A task asks Ray for all cores and GPUs of its node, so Ray itself starts nothing else on the node
meanwhile, this program's or another's. A node that is lost gives its task back to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from exporter.cluster.nodes import RayNode, living_nodes
from exporter.runtime.errors import reason_of

T = TypeVar("T")
R = TypeVar("R")

_DESCRIBED_WITHIN_S: Final = 120
"""Of a node that has no free process, Python and this package are started there first."""
_TRIES: Final = 2
"""Times that a task is lost with its process or its node: then it is the task."""


@dataclass(frozen=True)
class Lost:
    """What became of a task that has no answer."""

    reason: str


@dataclass(frozen=True)
class Failed(Lost):
    """The work itself raised something: it would again."""


@dataclass(frozen=True)
class Gone(Lost):
    """The node is not there any more, and the task was not begun."""


@dataclass(frozen=True)
class Task(Generic[T]):
    """What is to be done, and the ids of the nodes that may do it."""

    payload: T
    nodes: Collection[str]


def asked_each(ray: Any, nodes: Sequence[RayNode], ask: Callable[[], R]) -> list[R | Lost]:
    """What a function answers on each node, beside whatever runs there."""
    asked = [_asked(ray, node, False, ask) for node in nodes]
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=_DESCRIBED_WITHIN_S)
    done, answers = set(ready), list[R | Lost]()
    for one in asked:
        if one in done:
            answers.append(_answer(ray, one))
        else:
            answers.append(Lost(f"it did not answer within {_DESCRIBED_WITHIN_S} s"))
    return answers


def done_alone(
    ray: Any,
    nodes: Sequence[RayNode],
    tasks: Sequence[Task[T]],
    work: Callable[[T], R],
    given: Callable[[T, str], None],
    note: Callable[[str], None],
) -> Iterator[tuple[T, R | Lost]]:
    """Each task with its answer as it comes; on every node one at a time, and nothing else.

    `given` is told of a task and the address of the node that will do it, once that is idle.
    """
    idle = {node.id: node for node in nodes}
    waiting = list(tasks)
    asked: dict[Any, tuple[Task[T], RayNode]] = {}
    tries: dict[int, int] = {}
    while waiting or asked:
        for task in list(waiting):
            node = next((idle[one] for one in task.nodes if one in idle), None)
            if node is not None:
                del idle[node.id]
                waiting.remove(task)
                reference = _asked(ray, node, True, work, task.payload)
                asked[reference] = task, node
                given(task.payload, node.address)
        busy = {node.id for _, node in asked.values()}
        for task in [one for one in waiting if busy.isdisjoint(one.nodes)]:
            waiting.remove(task)
            yield task.payload, Lost("every node that could do it was lost")
        if not asked:
            continue
        ready, _ = ray.wait(list(asked), num_returns=1)
        task, node = asked.pop(ready[0])
        answer = _answer(ray, ready[0])
        if isinstance(answer, Gone):  # Ray knows it before its list of nodes does
            waiting.append(task)
            continue
        if node.id in {one.id for one in living_nodes(ray)}:
            idle[node.id] = node
        if isinstance(answer, Lost) and not isinstance(answer, Failed):
            tries[id(task)] = tries.get(id(task), 0) + 1
            if tries[id(task)] < _TRIES:
                note(f"node {node.address}: {answer.reason}; its job is done again")
                waiting.append(task)
                continue
        yield task.payload, answer


def _asked(ray: Any, node: RayNode, whole: bool, work: Callable[..., Any], *given: Any) -> Any:
    """The reference of what a call answers on that node, in a process of its own."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(
        num_cpus=node.cpus if whole else 0,
        num_gpus=node.gpus if whole else 0,
        max_retries=0,
        max_calls=1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
    )(_called)
    return remote.remote(work, *given)


def _called(work: Callable[..., Any], *given: Any) -> Any:
    """What Ray starts: a function, which an object that can be called is not."""
    return work(*given)


def _answer(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        return Failed(f"{type(cause).__name__}: {reason_of(cause, 300)}")
    except ray.exceptions.TaskUnschedulableError as error:
        return Gone(reason_of(error, 200))
    except ray.exceptions.RayError as error:
        return Lost(f"its process or its node was lost ({reason_of(error, 200)})")
