"""The nodes of a Ray cluster: what they have to give, and how many workers there is room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.errors import UsageError


@dataclass(frozen=True)
class RayNode:
    """A node as Ray knows it."""

    id: str
    address: str
    cpus: float
    gpus: float
    labels: Mapping[str, str]

    def __str__(self) -> str:
        gpus = f"{self.gpus:g} GPU{'s' * (self.gpus != 1)}" if self.gpus else "no GPU"
        return f"{self.address} ({self.cpus:g} core{'s' * (self.cpus != 1)}, {gpus})"


@dataclass(frozen=True)
class Share:
    """What a worker has of its node for itself."""

    cores: int
    gpus: int = 0

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' * (self.cores != 1)}"
        return f"a GPU and {cores}" if self.gpus else cores

    def room_on(self, node: RayNode) -> int:
        """Workers that fit there side by side."""
        room = int(node.cpus) // self.cores
        return min(room, int(node.gpus) // self.gpus) if self.gpus else room


def share_of(nodes: Sequence[RayNode], threads: int, *, on_gpu: bool) -> Share:
    """A worker's share, whose batches are of so many threads: their cores.

    An engine of a GPU has that and its part of its node's cores, which decode for it: as many
    everywhere, so what the least of the nodes with a GPU has for each.
    """
    if not on_gpu:
        return Share(threads)
    parts = [int(node.cpus // node.gpus) for node in nodes if node.gpus >= 1]
    enough = [cores // threads * threads for cores in parts if cores >= threads]
    return Share(min(enough, default=threads), gpus=1)


def living_nodes(ray: Any) -> tuple[RayNode, ...]:
    """Every node of the cluster that is there and has cores to give."""
    found = []
    for node in ray.nodes():
        resources = node["Resources"] if node["Alive"] else {}
        if resources.get("CPU", 0) >= 1:
            labels = {
                key: value
                for key, value in (node.get("Labels") or {}).items()
                if not key.startswith("ray.io/")
            }
            found.append(
                RayNode(
                    node["NodeID"],
                    node["NodeManagerAddress"],
                    resources["CPU"],
                    resources.get("GPU", 0),
                    labels,
                )
            )
    return tuple(sorted(found, key=lambda one: (one.address, one.id)))


def slots_of(nodes: Sequence[RayNode], share: Share, most: int | None) -> int:
    """Workers that the nodes have room for, and no more than `most`: none is spread over two.

    Raises:
        UsageError: there is room for none; the message lists what the nodes have.
    """
    room = sum(map(share.room_on, nodes))
    if not room:
        how = (
            "an engine of a GPU needs a node that Ray counts one on (`ray start --num-gpus`)"
            if share.gpus and not any(node.gpus >= 1 for node in nodes)
            else "give fewer --threads"
        )
        raise UsageError(
            f"no node of the cluster has {share} for a worker: there "
            f"{'is' if len(nodes) == 1 else 'are'} {', '.join(map(str, nodes)) or 'none'}; {how}"
        )
    return room if most is None else min(room, most)
