"""Which layouts are tried, and which of them is best."""

from __future__ import annotations

import pytest

from exporter.measure.throughput import (
    Layout,
    ServedPoint,
    Throughput,
    layouts,
    single,
    with_best,
)
from exporter.measure.timing import Speedup


def point(images_per_s: float, p99_ms: float, engine: str = "a", batch: int = 1) -> ServedPoint:
    gain = Speedup(1.0, (1.0, 1.0))
    return ServedPoint(engine, 2, 1, 1, batch, 5, images_per_s, p99_ms / 2, p99_ms, gain)


@pytest.mark.parametrize("cores", [1, 2, 3, 6, 7, 12, 64, 96, 360])
def test_every_layout_uses_all_cores_and_they_stay_few(cores: int) -> None:
    found = layouts(cores)
    assert found[0] == single(cores) == Layout(1, 1, cores)
    assert len(set(found)) == len(found) <= 1 + 2 * 4
    assert {one.processes * one.streams * one.threads for one in found} == {cores}
    if cores > 1:
        assert {Layout(cores, 1, 1), Layout(1, cores, 1)} <= set(found)


def test_on_two_cores_there_are_three() -> None:
    assert [str(one) for one in layouts(2)] == ["1 x 2", "2 x 1", "1 x 2 x 1"]


def test_between_the_ends_the_threads_are_spread() -> None:
    assert [one.threads for one in layouts(64) if one.streams == 1] == [64, 16, 8, 4, 1]


def test_of_equals_the_one_that_waits_least_is_best() -> None:
    points = with_best([point(100, 30), point(99, 20), point(90, 10)], None)
    assert [one.best for one in points] == [False, True, False]


def test_each_engine_has_its_best_and_the_fastest_of_those_is_the_best() -> None:
    points = with_best([point(100, 30), point(50, 20, "b"), point(40, 10, "b")], None)
    measured = Throughput(2, 2, 0.5, points)
    assert [one.best for one in points] == [True, True, False]
    assert measured.best is points[0]
    assert measured.best_of("b") is points[1]
    assert measured.best_of("c") is None
    alone = measured.of_engines(["b"])
    assert alone.best is points[1]
    assert len(alone.points) == 2


def test_a_limit_of_p99_takes_the_fastest_within_it() -> None:
    points = [point(100, 30, batch=8), point(80, 20, batch=4), point(60, 10)]
    assert [one.best for one in with_best(points, 25)] == [False, True, False]
    assert [one.best for one in with_best(points, 5)] == [False, False, False]
    assert Throughput(2, 2, 0.5, with_best(points, 5), max_p99_ms=5).best is None
