"""Sweeps on a real Ray cluster of three nodes: each job where it must be, alone, and done once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from exporter.builds.sweep_request import SweepRequest
from exporter.cluster.connection import connected
from exporter.cluster.nodes import living_nodes
from exporter.cluster.whole_nodes import Failed, Lost, Task, asked_each, done_alone
from exporter.commands.sweep import run_sweep
from exporter.errors import UsageError
from exporter.host import describe_host
from exporter.progress import Silent
from tests.cluster.clusters import head, joined
from tests.fleet import witness
from tests.test_isolation import ROOT

pytestmark = pytest.mark.ray

SPEC = """
models: ["tests.fleet.witness:thin", "tests.fleet.witness:wide"]
targets: [ort-cpu]
precisions: [fp32]
hardware:
  big: {labels: {kind: big}}
  small: {labels: {kind: small}, precisions: [int8], options: {calibration_samples: 8}}
options: {weights: random, image_size: 16, samples: 8, rounds: 5, threads: 1}
"""


@dataclass(frozen=True)
class Nodes:
    """The head, and two nodes that say that they are different hardware."""

    cluster: Any
    witnesses: Path

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(one.read_text()) for one in sorted(self.witnesses.glob("*.json"))]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("witnesses")
    with pytest.MonkeyPatch.context() as patch:  # the nodes inherit it
        patch.setenv(witness.FOLDER, str(folder))
        patch.setenv("PYTHONPATH", str(ROOT))
        made = head(num_cpus=1)
        for kind in ("big", "small"):
            joined(made, num_cpus=1, labels={"kind": kind})
        made.wait_for_nodes()
        yield Nodes(made, folder)
        made.shutdown()


@pytest.fixture(autouse=True)
def fresh(nodes: Nodes) -> None:
    for file in nodes.witnesses.iterdir():
        file.unlink()


def spec(folder: Path) -> Path:
    path = folder / "fleet.yaml"
    path.write_text(SPEC)
    return path


def kinds(ray: Any) -> dict[str, str]:
    return {node.id: node.labels.get("kind", "head") for node in living_nodes(ray)}


@dataclass(frozen=True)
class Span:
    """What a task says: which node, from when to when."""

    folder: Path
    never_on: str = ""
    """The id of a node where it does not end."""

    def __call__(self, name: str) -> tuple[str, float, float]:
        import ray

        start = time.time()
        (self.folder / f"{name}.started").touch()
        if name == "raises":
            raise ZeroDivisionError("a slip")
        node = ray.get_runtime_context().get_node_id()
        time.sleep(3600 if node == self.never_on else 0.4)
        return node, start, time.time()


def test_each_task_is_done_where_it_may_be_and_never_two_at_once(
    nodes: Nodes, tmp_path: Path
) -> None:
    with connected(nodes.address) as ray:
        living = living_nodes(ray)
        assert [one.labels for one in living if one.labels] != []
        assert asked_each(ray, living, describe_host) == [describe_host()] * 3
        named = kinds(ray)
        big, small = (
            next(one for one, kind in named.items() if kind == wanted)
            for wanted in ("big", "small")
        )
        allowed = {"b": [big], "s": [small], "e": [big, small], "r": [small]}
        names = ["b1", "b2", "b3", "s1", "s2", "e1", "e2", "e3", "raises"]
        tasks = [Task(name, allowed[name[0]]) for name in names]
        found = dict(
            done_alone(ray, living, tasks, Span(tmp_path), lambda name, address: None, print)
        )
    assert isinstance(found.pop("raises"), Failed)
    spans = {name: one for name, one in found.items() if not isinstance(one, Lost)}
    assert sorted(spans) == sorted({*names} - {"raises"})
    for name, (node, _, _) in spans.items():
        assert node in allowed[name[0]], name
    for node in (big, small):
        own = sorted(span[1:] for span in spans.values() if span[0] == node)
        assert len(own) >= 2
        assert all(end <= start for (_, end), (start, _) in pairwise(own)), own


def test_two_programs_never_share_a_node(nodes: Nodes, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from exporter.cluster.connection import connected\n"
        "from exporter.cluster.nodes import living_nodes\n"
        "from exporter.cluster.whole_nodes import Task, done_alone\n"
        "from tests.cluster.test_whole_nodes import Span\n"
        "with connected(sys.argv[1]) as ray:\n"
        "    nodes = living_nodes(ray)\n"
        "    ids = [one.id for one in nodes if one.labels.get('kind') == 'big']\n"
        "    tasks = [Task(sys.argv[3] + str(n), ids) for n in range(2)]\n"
        "    work = Span(Path(sys.argv[2]))\n"
        "    for _, span in done_alone(ray, nodes, tasks, work, lambda *_: None, print):\n"
        "        print(span[1], span[2])\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, nodes.address, str(tmp_path), name],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for name in "xy"
    ]  # fmt: skip
    lines = [line for one in both for line in one.communicate()[0].splitlines()]
    own = sorted(tuple(map(float, line.split())) for line in lines)
    assert len(own) == 4
    assert all(end <= start for (_, end), (start, _) in pairwise(own)), own


def test_a_node_that_is_lost_gives_its_task_to_another(nodes: Nodes, tmp_path: Path) -> None:
    extra = [joined(nodes.cluster, num_cpus=1, labels={"kind": "extra"}) for _ in range(2)]
    nodes.cluster.wait_for_nodes()
    notes: list[str] = []
    killed: list[str] = []
    with connected(nodes.address) as ray:
        living = living_nodes(ray)
        ids = [one.id for one in living if one.labels.get("kind") == "extra"]

        def kill(name: str, address: str) -> None:
            if killed:
                return
            while not (tmp_path / f"{name}.started").exists():
                time.sleep(0.05)
            running = next(one for one in extra if one.node_id == ids[0])
            killed.append(ids[0])
            nodes.cluster.remove_node(running, allow_graceful=False)

        tasks = [Task("only", ids)]
        ((_, answer),) = done_alone(
            ray, living, tasks, Span(tmp_path, never_on=ids[0]), kill, notes.append
        )
        assert not isinstance(answer, Lost)
        assert answer[0] == ids[1]
        assert len(notes) == 1
        assert "its job is done again" in notes[0]
        # Nobody is left who could do it.
        nodes.cluster.remove_node(next(one for one in extra if one.node_id == ids[1]))
        while len(living_nodes(ray)) > 3:
            time.sleep(0.2)
        ((_, gone),) = done_alone(
            ray, living_nodes(ray), tasks, Span(tmp_path), lambda *_: None, print
        )
        assert gone == Lost("every node that could do it was lost")


def test_a_sweep_builds_each_engine_on_its_hardware_alone(nodes: Nodes, tmp_path: Path) -> None:
    request = SweepRequest(spec(tmp_path), on=nodes.address, out=tmp_path / "out")
    swept = run_sweep(request, Silent())
    assert swept.failures == ()
    with connected(nodes.address) as ray:
        named = kinds(ray)
    built = {
        (one.model, one.hardware): [engine.id for engine in one.report.engines]
        for one in swept.record.builds
    }
    fp32, int8 = ["ort-cpu.fp32"], ["ort-cpu.int8"]
    assert built == {
        ("thin", "big"): fp32, ("wide", "big"): fp32,
        ("thin", "small"): int8, ("wide", "small"): int8,
    }  # fmt: skip
    told = nodes.told()
    where = sorted((named[one["node"]], one["model"]) for one in told)
    assert where == [("big", "thin"), ("big", "wide"), ("small", "thin"), ("small", "wide")]
    ends = sorted(
        (path.stat().st_mtime, path.parent.name)
        for path in (tmp_path / "out" / "builds").glob("*/manifest.json")
    )
    # One machine stands for all nodes here: between one job's start and its build no other begins.
    starts = sorted(one["at"] for one in told)
    assert all(end <= start for (end, _), start in zip(ends, starts[1:], strict=False))
    again = run_sweep(request, Silent())
    assert again.done_before == 4
    assert again.record == swept.record
    assert len(nodes.told()) == 4


def test_a_driver_that_is_killed_and_started_again_redoes_nothing_finished(
    nodes: Nodes, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "exporter", "sweep", str(spec(tmp_path)), "--on",
               nodes.address, "--out", str(tmp_path / "out")]  # fmt: skip
    builds = tmp_path / "out" / "builds"
    driver = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 280
    while not list(builds.glob("*/manifest.json")):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    with connected(nodes.address) as ray:  # its tasks go with it
        while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finished = {path: path.stat().st_mtime_ns for path in builds.glob("*/manifest.json")}
    before = nodes.told()
    assert 1 <= len(finished) < 4
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(finished)} of 4 builds are in the store already" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(list(builds.glob("*/manifest.json"))) == 4
    assert len(nodes.told()) == len(before) + 4 - len(finished)


def test_a_hardware_that_no_node_is_lists_the_nodes(nodes: Nodes, tmp_path: Path) -> None:
    path = spec(tmp_path)
    path.write_text(SPEC.replace("kind: small", "kind: huge"))
    with pytest.raises(UsageError, match=r"no node is hardware small \(labels kind=huge\)") as said:
        run_sweep(SweepRequest(path, on=nodes.address, out=tmp_path / "out"), Silent())
    for label in ("kind=big", "kind=small"):
        assert label in str(said.value)
