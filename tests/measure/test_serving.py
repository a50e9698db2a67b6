"""Processes under load, of an engine that is real. No test asserts how fast they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from exporter.artifact import Skipped
from exporter.measure import serving
from exporter.measure.process import WorkerProcess
from exporter.measure.serving import Entrant, Load, measure_throughput, still_in
from exporter.measure.throughput import Layout
from exporter.progress import Silent
from tests.packed import digits_bundle

LOAD = Load(Path("bundle"), ("a",), (1, 4), cores=2, rounds=5, seed=0)


@pytest.fixture(autouse=True)
def _no_process_stays_behind() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


def entrant(layout: Layout, batch: int, images_per_s: float, p99_ms: float) -> Entrant:
    return Entrant("a", layout, batch, 0.01, [[1 / images_per_s]] * 3, [[p99_ms / 1e3] * 9] * 3)


def test_every_layout_that_can_be_tried_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ROUND_S", 0.02)
    monkeypatch.setattr(serving, "MARGIN_S", 0.01)
    monkeypatch.setattr(serving, "HEATS", 1)
    load = Load(digits_bundle(), ("ort-cpu.int8",), (2,), 2, rounds=2, seed=0)
    found = measure_throughput(load, Silent())
    shapes = [(p.processes, p.streams, p.threads, p.batch) for p in found.points]
    assert shapes == [(1, 1, 2, 2), (2, 1, 1, 2), (1, 2, 1, 2)]
    for point in found.points:
        assert point.engine == "ort-cpu.int8"
        assert point.rounds in (1, 2)
        assert point.images_per_s > 0
        assert 0 < point.p50_ms <= point.p99_ms
        low, high = point.gain.ci95
        assert 0 < low <= point.gain.median <= high
    assert found.points[0].gain.median == 1
    assert sum(point.best for point in found.points) == 1
    assert found.left_out == {}


def test_more_processes_than_the_memory_holds_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ROUND_S", 0.02)
    monkeypatch.setattr(serving, "FREE_MEMORY", 2.0)
    load = Load(digits_bundle(), ("ort-cpu.int8",), (1,), 2, rounds=1, seed=0)
    found = measure_throughput(load, Silent())
    assert {(point.processes, point.streams) for point in found.points} == {(1, 1), (1, 2)}
    assert list(found.left_out) == ["ort-cpu.int8 2 x 1"]
    assert "1 more processes take" in found.left_out["ort-cpu.int8 2 x 1"].skipped


def test_a_process_that_dies_costs_its_layout_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ROUND_S", 0.02)
    real = serving.together

    def die_of_two(workers: list[WorkerProcess], request: dict[str, object]) -> list[object]:
        if len(workers) == 2:
            psutil.Process(workers[1].pid).kill()
        return list(real(workers, request))

    monkeypatch.setattr(serving, "together", die_of_two)
    load = Load(digits_bundle(), ("ort-cpu.int8",), (1,), 2, rounds=1, seed=0)
    found = measure_throughput(load, Silent())
    assert {(point.processes, point.streams) for point in found.points} == {(1, 1), (1, 2)}
    assert found.left_out == {
        "ort-cpu.int8 2 x 1": Skipped(
            "the process that measures ort-cpu.int8-2-x-1-1 died (SIGKILL, perhaps out of memory)"
        )
    }


def test_what_cannot_be_best_is_measured_in_the_first_rounds_alone() -> None:
    one, two = Layout(1, 1, 2), Layout(2, 1, 1)
    everyone = [
        entrant(one, 1, 50, 20),  # the reference
        entrant(two, 1, 60, 30),  # slow, and it waits longer than what is faster
        entrant(one, 4, 95, 40),
        entrant(two, 4, 100, 25),
    ]
    assert still_in(everyone, LOAD) == [everyone[0], everyone[2], everyone[3]]
