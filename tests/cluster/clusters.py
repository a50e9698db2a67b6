"""Clusters of Ray on this machine, for as long as a test needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

_TRIES: Final = 3


def head(**resources: Any) -> Any:
    """A cluster of one node."""
    from ray.cluster_utils import Cluster

    return _started(lambda: Cluster(initialize_head=True, head_node_args=resources))


def joined(cluster: Any, **resources: Any) -> Any:
    """One more node of it."""
    return _started(lambda: cluster.add_node(**resources))


def _started(start: Callable[[], T]) -> T:
    """Ray waits for thirty seconds, which a busy machine may need to start its processes."""
    for _ in range(_TRIES - 1):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()
