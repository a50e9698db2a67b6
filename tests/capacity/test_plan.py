"""From calls to machines: the search, its limits, and what it says of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporter.capacity import plan as planning
from exporter.capacity.arrivals import bursts, poisson
from exporter.capacity.plan import Demand, Found, estimate, find, percentile_ms, scaled_t
from exporter.capacity.service_times import service_times
from exporter.errors import UsageError
from exporter.measure.throughput import Layout, Throughput
from exporter.progress import Silent
from tests.richer_manifests import under_load

DEMAND = Demand(
    rate=1e6,
    slo_ms=60,
    arrivals=poisson,
    spare=0,
    overhead_ms=1.0,
    busy_overhead_ms=0.0,
    price=None,
    seed=0,
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the requests: the tests are about the search, not its last percent."""
    monkeypatch.setattr(planning, "SEARCH_REQUESTS", 250)
    monkeypatch.setattr(planning, "REQUESTS", 500)
    monkeypatch.setattr(planning, "REPEATS", 4)


def found(demand: Demand = DEMAND) -> Found:
    measured = under_load().throughput
    assert isinstance(measured, Throughput)
    points = [point for point in measured.points if point.engine == "ort-cpu.int8"]
    return find(service_times(points), demand, Silent())


def test_the_limit_is_kept_by_the_fewest_machines() -> None:
    best = found()
    assert best.needed == pytest.approx(1e6 / best.most, rel=0.001)
    waits = estimate([percentile_ms(one, 99) for one in best.served])
    assert waits.value <= 60
    assert [one.most for one in best.alternatives] == sorted(
        (one.most for one in best.alternatives), reverse=True
    )
    assert best.machine.serving == best.alternatives[0].serving
    # Of one process on both cores, one on each, and two streams: with and without batches.
    assert len({str(one.serving.layout) for one in best.alternatives}) == 3


def test_more_patience_takes_fewer_machines_and_bursts_take_more() -> None:
    usual = found().needed
    assert found(replace(DEMAND, slo_ms=400)).needed < usual
    assert found(replace(DEMAND, arrivals=bursts)).needed > usual


def test_the_same_seed_gives_the_same_plan() -> None:
    first, second = found(), found()
    assert (first.most, first.alternatives) == (second.most, second.alternatives)
    assert found(replace(DEMAND, seed=1)).most != first.most


def test_a_limit_that_nobody_keeps_names_the_best() -> None:
    with pytest.raises(UsageError, match=r"--slo-ms 5: no set-up keeps it; the best, 1 x 2 .*ms"):
        found(replace(DEMAND, slo_ms=5))


def test_layouts_without_calls_are_left_out() -> None:
    measured = under_load().throughput
    assert isinstance(measured, Throughput)
    bare = [replace(point, alone_ms=()) for point in measured.points]
    assert [one.layout for one in service_times(bare)] == [Layout(1, 1, 2)]
    assert service_times(replace(point, calls_ms=()) for point in bare) == []


def test_the_interval_is_students() -> None:
    assert [scaled_t(n) for n in (5, 8, 31)] == pytest.approx([2.7764, 2.3646, 2.0423], rel=3e-3)
    low, high = estimate([1.0, 2.0, 3.0, 2.0, 2.0]).ci95
    assert (low + high) / 2 == pytest.approx(2)
    assert high - low == pytest.approx(2 * 2.7764 * np.std([1, 2, 3, 2, 2], ddof=1) / 5**0.5, 0.01)
