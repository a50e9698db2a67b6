"""The check of capacity plans, against a real Triton server. What it measures is its own matter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.capacity_check import Limits, Outcome, Point, check, served, summary
from benchmarks.triton_load import Triton
from exporter.capacity.service_times import ServiceTimes
from exporter.errors import InputError
from exporter.measure.throughput import QUANTILES, Layout
from tests.packed import edited_build, measured
from tests.serving.environment import needs_triton
from tests.serving.test_triton import MODEL, make_repository
from tests.serving.triton_server import running

pytestmark = [pytest.mark.serving, needs_triton, pytest.mark.timeout(300)]

CALLS = np.full(len(QUANTILES), 1e-4)
"""Shorter than any call of the engine: so the server adds something for certain."""
TIMES = ServiceTimes(Layout(2, 1, 1), alone={1: CALLS, 4: CALLS}, busy={1: CALLS, 4: CALLS})


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    folder = tmp_path_factory.mktemp("build")
    build = edited_build(folder, lambda manifest: measured(manifest, fp32={1: 3.0}, int8={1: 1.0}))
    repository: Path = make_repository(build, tmp_path_factory.mktemp("repository"))
    with running(repository, tmp_path_factory.mktemp("server"), MODEL) as server:
        yield Triton(server.url, MODEL)


def test_every_request_is_sent_when_it_is_due_and_answered(triton: Triton) -> None:
    triton.load(1, 1)
    due = np.linspace(0, 0.5, 50)
    waits, late = triton.send(due)
    assert len(waits) == len(late) == 50
    assert min(late) >= 0
    assert all(waits > late)  # an answer takes time


@pytest.mark.parametrize("largest", [1, 4])
def test_an_operating_point_is_measured_and_predicted(triton: Triton, largest: int) -> None:
    outcome = check(triton, TIMES, Point(2, 1, largest, load=0.2), seconds=1, number=0)
    assert outcome.requests == round(outcome.rate) > 0
    assert outcome.pace == 1
    assert outcome.overhead_ms > 0
    assert outcome.busy_overhead_ms > 0
    assert 0 < outcome.measured_p50_ms <= outcome.measured_p99_ms
    assert 0 < outcome.predicted_p50_ms <= outcome.predicted_p99_ms


def test_what_the_server_takes_is_what_its_limit_lacks() -> None:
    model = served(TIMES, Limits(alone_s=3e-4, most_per_s=8e3), Point(2, 1, 1, 0.5), 0.0)
    assert model.server.overhead_s == pytest.approx(2e-4)
    assert model.times.images_per_s(1, model.server.busy_overhead_s) == pytest.approx(8e3)


def test_a_server_beyond_the_engines_limit_is_on_a_faster_machine() -> None:
    model = served(TIMES, Limits(alone_s=5e-5, most_per_s=40e3), Point(2, 1, 1, 0.5), 0.0)
    assert model.pace == 0.5
    assert model.server.busy_overhead_s == pytest.approx(0, abs=1e-12)
    assert model.times.images_per_s(1) == pytest.approx(40e3)


def test_of_several_rounds_the_medians_count() -> None:
    def outcome(number: int, predicted_ms: float, measured_ms: float) -> Outcome:
        return Outcome(
            Point(1, 1, 1, 0.5), number, most_per_s=40, rate=20, requests=600, pace=1,
            overhead_ms=0, busy_overhead_ms=0, predicted_p50_ms=predicted_ms,
            measured_p50_ms=measured_ms, predicted_p99_ms=2 * predicted_ms,
            measured_p99_ms=3 * measured_ms, late_ms=0,
        )  # fmt: skip

    found = summary([outcome(0, 30, 20), outcome(1, 20, 25), outcome(2, 44, 40)])
    assert (found.predicted_p50_ms, found.measured_p50_ms) == (30, 25)
    assert found.p50_ratio == 1.1  # of the last round, not of the medians
    assert found.p99_ratio == pytest.approx(1.1 * 2 / 3)


def test_what_the_server_refuses_is_said(triton: Triton) -> None:
    with pytest.raises(InputError, match="no_such_model"):
        Triton(triton.url, "no_such_model").load(1, 1)
