"""A Ray cluster of which one node says that it has two GPUs: who gets which, and who is refused.

Ray takes a node's word for its GPUs, so this is about where workers go; no engine runs on a GPU.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exporter import host
from exporter.builds.dataset_request import ClassifyRequest, EvaluateRequest
from exporter.cluster.on_ray import run_on
from exporter.commands.classify import label
from exporter.commands.evaluate import evaluate
from exporter.errors import InputError, UsageError
from exporter.images.sources.source import Encoded, Part
from exporter.progress import Silent
from tests.cluster.clusters import head, joined
from tests.cluster.test_here import Counting
from tests.images.sources.stores import folder
from tests.packed import copy_of, digits_bundle, edit_manifest, edited_build, on_a_gpu

pytestmark = pytest.mark.ray


Place = tuple[str, str | None, int]
"""The node, the GPUs that a process sees, and the batches that it works on side by side."""


@dataclass(frozen=True)
class Where:
    """Answers where a process is, once so many of them are at work."""

    on_gpu: bool
    at_work: Path
    together: int

    @contextmanager
    def opened(self, workers: int) -> Iterator[Callable[[tuple[Encoded, ...]], Place]]:
        import ray

        here = ray.get_runtime_context().get_node_id()

        def answer(_: tuple[Encoded, ...]) -> Place:
            (self.at_work / str(os.getpid())).touch()
            while len(list(self.at_work.iterdir())) < self.together:
                time.sleep(0.05)
            return here, os.environ.get("CUDA_VISIBLE_DEVICES"), workers

        yield answer


@dataclass(frozen=True)
class Wanted:
    threads: int = 1
    workers: int | None = None


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    made = head(num_cpus=1, num_gpus=0)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def with_gpus(cluster: Any) -> str:
    """The id of a node with two of them, and cores for more workers."""
    added = joined(cluster, num_cpus=4, num_gpus=2)
    cluster.wait_for_nodes()
    return str(added.node_id)


def where(cluster: Any, job: Where, wanted: Wanted | None = None) -> set[Place]:
    parts: list[tuple[int, Part]] = [(number, Counting(8)) for number in range(6)]
    found = run_on(cluster.address, job, parts, wanted or Wanted(), lambda _: None, print)
    answers = [one for _, some in found for one in some]
    assert len(answers) == len(parts)
    return set(answers)


def test_without_a_gpu_an_engine_of_one_is_refused(cluster: Any, tmp_path: Path) -> None:
    bundle, data = copy_of(digits_bundle(), tmp_path), folder(str(tmp_path / "p"))
    edit_manifest(bundle, on_a_gpu)
    request = ClassifyRequest(
        bundle, data=data, out=tmp_path / "out", engine="ort-cpu.int8", on=cluster.address
    )
    said = (
        r"no node of the cluster has a GPU and 1 core for a worker: there is .* \(1 core, no GPU\)"
    )
    with pytest.raises(UsageError, match=said):
        label(request, Silent())
    build = edited_build(tmp_path, on_a_gpu)
    asked = EvaluateRequest(build, data=data, engines=("ort-cpu.int8",), on=cluster.address)
    with pytest.raises(UsageError, match=said):
        evaluate(asked, Silent())


def test_each_worker_has_a_gpu_of_its_own_and_its_part_of_the_cores(
    cluster: Any, with_gpus: str, tmp_path: Path
) -> None:
    for threads, workers in ((1, 2), (2, 1)):
        at_work = tmp_path / str(threads)
        at_work.mkdir()
        both = {(with_gpus, "0", workers), (with_gpus, "1", workers)}
        assert where(cluster, Where(True, at_work, 2), Wanted(threads)) == both
    assert len(where(cluster, Where(True, tmp_path, 1), Wanted(workers=1))) == 1


def test_what_needs_none_has_the_cores_of_all(
    cluster: Any, with_gpus: str, tmp_path: Path
) -> None:  # fmt: skip
    places = where(cluster, Where(False, tmp_path, 5))
    nodes = {node for node, _, _ in places}
    assert len(nodes) == 2
    assert with_gpus in nodes
    assert {workers for _, _, workers in places} == {1}


@pytest.mark.skipif(host.describe_host().gpu is not None, reason="the engine may run here")
@pytest.mark.usefixtures("with_gpus")
def test_a_node_that_cannot_run_the_engine_after_all_says_so(cluster: Any, tmp_path: Path) -> None:
    bundle, data = copy_of(digits_bundle(), tmp_path), folder(str(tmp_path / "p"))
    edit_manifest(bundle, on_a_gpu)
    engine, on = "ort-cpu.int8", cluster.address
    request = ClassifyRequest(bundle, data=data, out=tmp_path / "out", engine=engine, on=on)
    with pytest.raises(InputError, match=rf"{platform.node()}: .* ort-cpu.int8: onnxruntime"):
        label(request, Silent())
    asked = EvaluateRequest(edited_build(tmp_path, on_a_gpu), data=data, engines=(engine,), on=on)
    with pytest.raises(UsageError, match=rf"{platform.node()}: .* ort-cpu.int8 \(target"):
        evaluate(asked, Silent())
