"""A real Ray cluster of three nodes on this machine: the same result as here, killed or not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from exporter.builds.dataset_request import ClassifyRequest, EvaluateRequest
from exporter.cluster.connection import ANSWERS_WITHIN_S, connected
from exporter.commands import classify as classifying
from exporter.commands.classify import label
from exporter.commands.evaluate import evaluate
from exporter.images.sources import files
from exporter.progress import Silent
from tests.cluster.clusters import head, joined
from tests.images.sources.stores import folder, write
from tests.packed import digits_build, digits_bundle

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
RUNS = int(os.environ.get("RUNS", "20"))
FIRST = int(os.environ.get("FIRST", "0"))
"""Other moments."""
PICTURES = tuple(range(3000))
PART = 16
"""Pictures that a worker is given at once: few, so that a node holds some whenever it is killed."""
COMMAND = f"""
import sys
from exporter.cli import main
from exporter.commands import classify
from exporter.images.sources import files
files.PART = classify.SHARD = {PART}
main()
"""


class Nodes:
    """Three nodes with a core each, the first of them the head."""

    def __init__(self) -> None:
        self.cluster = head(num_cpus=1)
        self.others = [joined(self.cluster, num_cpus=1) for _ in range(2)]
        self.cluster.wait_for_nodes()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def kill_one(self) -> None:
        self.cluster.remove_node(self.others.pop(), allow_graceful=False)

    def fill_up(self) -> None:
        while len(self.others) < 2:
            self.others.append(joined(self.cluster, num_cpus=1))
        self.cluster.wait_for_nodes()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray")
    made = Nodes()
    yield made
    made.cluster.shutdown()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = folder(str(tmp_path_factory.mktemp("data") / "p"), PICTURES)
    write(f"{made}/3/torn.png", b"no picture")
    return made


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PART", PART)
    monkeypatch.setattr(classifying, "SHARD", PART)


def evaluated(data: str, on: str | None = None, progress: Silent | None = None) -> str:
    request = EvaluateRequest(digits_build(), data=data, on=on, skip_unreadable=True)
    return evaluate(request, progress or Silent()).to_json()


def started(data: str, on: str, out: Path | None = None) -> subprocess.Popen[str]:
    """The command, in parts as small: `evaluate`, or `classify` to a folder."""
    what = ["evaluate", digits_build()]
    if out is not None:
        what = ["classify", digits_bundle(), "--out", out]
    given = [*map(str, what), "--data", data, "--on", on, "--skip-unreadable", "--json"]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *given],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(out: Path) -> list[dict[str, Any]]:
    found = [row for file in out.glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    return sorted(found, key=lambda row: row["path"])


def contents(out: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in out.iterdir()}


def test_the_same_counts_as_here(nodes: Nodes, data: str) -> None:
    progress = Silent()
    assert evaluated(data, nodes.address, progress) == evaluated(data)
    assert not any("done again" in note for note in progress.notes)


def test_the_same_predictions_as_here_byte_for_byte(
    nodes: Nodes, data: str, tmp_path: Path
) -> None:
    for out, on in (("here", None), ("there", nodes.address)):
        label(ClassifyRequest(digits_bundle(), data=data, out=tmp_path / out, on=on), Silent())
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
    assert len(contents(tmp_path / "here")) == 13
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_machine_on_which_ray_starts_slowly_finds_the_cluster(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a busy one: no time of its own is the cluster's."""
    slow = f"import time; time.sleep({ANSWERS_WITHIN_S})"
    (tmp_path / "sitecustomize.py").write_text(slow)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with connected(nodes.address) as ray:
        assert len(ray.nodes()) >= 3


@pytest.mark.timeout(1800)
def test_nodes_that_are_killed_cost_time_and_nothing_else(
    nodes: Nodes, data: str, tmp_path: Path
) -> None:
    """Of `evaluate` and `classify` in turn."""
    here, again = evaluated(data), 0
    labelled = tmp_path / "here"
    label(ClassifyRequest(digits_bundle(), data=data, out=labelled), Silent())
    lasts = []
    for out in (None, tmp_path / "whole"):
        start = time.monotonic()
        process = started(data, nodes.address, out)
        _, said = process.communicate()
        assert process.returncode == 0, said
        lasts.append(time.monotonic() - start)
    for run in range(FIRST, FIRST + RUNS):
        nodes.fill_up()
        out, lasts_s = tmp_path / str(run) if run % 2 else None, lasts[run % 2]
        # The first half is Ray's, which starts the program and its workers.
        moment_s = random.Random(run).uniform(lasts_s / 2, lasts_s)
        process = started(data, nodes.address, out)
        time.sleep(moment_s)
        nodes.kill_one()
        there, said = process.communicate()
        redone = [line for line in said.splitlines() if "done again" in line]
        print(f"run {run}: killed after {moment_s:.1f} of {lasts_s:.1f} s; {redone}")  # noqa: T201
        again += bool(redone)
        assert process.returncode == 0, said
        if out is None:
            assert there.strip() == here, f"run {run}"
        else:
            assert contents(out) == contents(labelled), f"run {run}"
    assert again, "no part was lost in any run"
