"""How many workers fit on the nodes of a cluster: by cores, and by GPUs where one is needed."""

from __future__ import annotations

import pytest

from exporter.cluster.nodes import RayNode, Share, share_of, slots_of
from exporter.errors import UsageError


def node(cpus: float, gpus: float = 0) -> RayNode:
    return RayNode(f"{cpus}-{gpus}", "10.0.0.1", cpus, gpus, {})


NODES = (node(8), node(16, gpus=4), node(3, gpus=2))


@pytest.mark.parametrize(
    ("share", "most", "slots"),
    [
        (Share(1), None, 27),
        (Share(4), None, 2 + 4),  # none is spread over two nodes
        (Share(4), 5, 5),
        (Share(1, gpus=1), None, 4 + 2),
        (Share(2, gpus=1), None, 4 + 1),
        (Share(8, gpus=1), None, 2),
        (Share(1, gpus=1), 3, 3),
    ],
)
def test_each_node_has_room_for_so_many(share: Share, most: int | None, slots: int) -> None:
    assert slots_of(NODES, share, most) == slots


@pytest.mark.parametrize(
    ("nodes", "threads", "on_gpu", "share"),
    [
        (NODES, 2, False, Share(2)),
        (NODES, 1, True, Share(1, gpus=1)),  # of 3 cores each of 2 GPUs has one
        (NODES, 2, True, Share(4, gpus=1)),  # where a GPU has one core, this cannot be
        (NODES, 3, True, Share(3, gpus=1)),
        (NODES, 8, True, Share(8, gpus=1)),  # `slots_of` says that there is no room
        ([node(8)], 1, True, Share(1, gpus=1)),
        ([node(64, gpus=8), node(128, gpus=8)], 1, True, Share(8, gpus=1)),
    ],
)
def test_on_a_gpu_a_worker_has_its_part_of_the_nodes_cores(
    nodes: list[RayNode], threads: int, on_gpu: bool, share: Share
) -> None:
    assert share_of(nodes, threads, on_gpu=on_gpu) == share


@pytest.mark.parametrize(
    ("nodes", "share", "said"),
    [
        (NODES, Share(32), r"has 32 cores for a worker: there are 10.0.0.1 \(8 cores, no GPU\), "
         r"10.0.0.1 \(16 cores, 4 GPUs\), 10.0.0.1 \(3 cores, 2 GPUs\); give fewer --threads"),
        ([node(8)], Share(1, gpus=1), r"no node of the cluster has a GPU and 1 core for a worker: "
         r"there is 10.0.0.1 \(8 cores, no GPU\); an engine of a GPU needs a node that Ray counts"),
        ([node(1, gpus=0.5)], Share(1, gpus=1), r"\(1 core, 0.5 GPUs\); an engine of a GPU needs"),
        ([node(1, gpus=1)], Share(2, gpus=1), r"\(1 core, 1 GPU\); give fewer --threads"),
        ([], Share(1), "there are none"),
    ],
)  # fmt: skip
def test_where_there_is_room_for_none_it_lists_the_nodes(
    nodes: list[RayNode], share: Share, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        slots_of(nodes, share, None)
