"""Batching from a measured curve."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.artifact import Precision
from exporter.errors import UsageError
from exporter.measure.throughput import ServedPoint, Throughput
from exporter.measure.timing import Speedup
from exporter.pack.batching import Batching, plan_batching
from tests.manifests import latency, record


def plan(
    curve: dict[int, float], *, slo_ms: float | None = None, limit: int | None = None, host: int = 2
) -> Batching:
    """For an engine of this curve (batch -> p50), measured with 2 threads; p99 is 1.25 times it."""
    engine = record(
        "ort-cpu",
        Precision.INT8,
        op="QLinearConv",
        dtype="int8",
        size=1,
        latencies=[latency(p50, 1.0, batch=batch) for batch, p50 in curve.items()],
    )
    return plan_batching(engine, host, slo_ms=slo_ms, limit=limit)


def test_the_batch_of_most_throughput_is_the_largest_served() -> None:
    best = plan({1: 1.0, 2: 1.4, 4: 2.4, 8: 5.2, 16: 11.0})
    assert (best.max_batch, best.preferred) == (4, (2, 4))
    assert best.delay_us == 1000
    assert best.timeout_us is None


def test_a_gain_below_five_percent_is_not_worth_its_latency() -> None:
    assert plan({1: 1.0, 2: 1.96}).max_batch == 1
    assert plan({1: 1.0, 2: 1.85}).max_batch == 2


def test_no_dynamic_batching_where_batches_gain_nothing() -> None:
    alone = plan({1: 1.0, 2: 2.1, 4: 4.3})
    assert (alone.max_batch, alone.preferred, alone.delay_us) == (1, (), 0)


def test_a_request_may_wait_for_one_batch_and_run_in_the_next() -> None:
    curve = {1: 1.0, 2: 1.4, 4: 2.4, 8: 4.0}  # p99 of 8: 5.0
    assert plan(curve, slo_ms=10.0).max_batch == 8
    tight = plan(curve, slo_ms=9.9)
    assert tight.max_batch == 4
    assert tight.timeout_us == 9900
    assert tight.delay_us == 1000
    assert plan(curve, slo_ms=6.2).delay_us == 200  # 6.2 - 2 * 3.0


def test_a_limit_that_one_image_misses_is_an_error() -> None:
    with pytest.raises(
        UsageError, match=r"--slo-ms 2 cannot be met by ort-cpu\.int8.* of 1, takes 1\.25 ms"
    ):
        plan({1: 1.0, 2: 1.4}, slo_ms=2.0)


@pytest.mark.parametrize("slo", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_time_is_an_error(slo: float) -> None:
    with pytest.raises(UsageError, match="no time"):
        plan({1: 1.0}, slo_ms=slo)


def test_nothing_measured_means_no_dynamic_batching() -> None:
    unmeasured = plan({}, limit=4)
    assert (unmeasured.max_batch, unmeasured.preferred) == (4, ())
    assert plan({}).max_batch == 8
    assert "was not measured" in unmeasured.reason
    with pytest.raises(UsageError, match="needs measured latencies"):
        plan({}, slo_ms=10.0)


def test_instances_fill_the_machine() -> None:
    assert plan({1: 1.0}, host=8).instances == 4
    assert plan({1: 1.0}, host=1).instances == 1


@given(
    st.dictionaries(st.sampled_from([1, 2, 4, 8, 16, 32]), st.floats(0.1, 100), min_size=1),
    st.one_of(st.none(), st.floats(0.1, 500)),
    st.one_of(st.none(), st.integers(1, 32)),
)
def test_no_plan_breaks_its_promises(
    curve: dict[int, float], slo_ms: float | None, limit: int | None
) -> None:
    try:
        found = plan(curve, slo_ms=slo_ms, limit=limit)
    except UsageError:
        return
    if limit is not None:
        assert found.max_batch <= limit
    assert all(1 < batch <= found.max_batch for batch in found.preferred)
    if slo_ms is not None:
        worst = 2 * 1.25 * curve[found.max_batch] + found.delay_us / 1000
        assert worst <= slo_ms + 1e-3


def served(
    processes: int, streams: int, threads: int, batch: int, rate: float, p99_ms: float
) -> ServedPoint:
    gain = Speedup(1.1, (1.05, 1.15))
    return ServedPoint(
        "ort-cpu.int8", processes, streams, threads, batch, 30, rate, 0.8 * p99_ms, p99_ms, gain
    )


def plan_under_load(
    *points: ServedPoint,
    slo_ms: float | None = None,
    limit: int | None = None,
    max_p99_ms: float | None = None,
) -> Batching:
    engine = record(
        "ort-cpu", Precision.INT8, op="QLinearConv", dtype="int8", size=1,
        latencies=[latency(5.0, 1.0)],
    )  # fmt: skip
    measured = Throughput(4, 4, 0.5, points, max_p99_ms)
    return plan_batching(engine, 4, slo_ms=slo_ms, limit=limit, measured=measured)


LOADED = (
    served(1, 1, 4, 1, 200, 25),
    served(4, 1, 1, 1, 240, 20),
    served(4, 1, 1, 4, 280, 60),
    served(1, 4, 1, 8, 300, 120),
)


def test_instances_are_those_of_the_best_layout_under_load() -> None:
    best = plan_under_load(*LOADED)
    assert (best.instances, best.threads, best.max_batch, best.preferred) == (4, 1, 8, (8,))
    assert best.reason.startswith("4 instances of 1 thread, batches of up to 8: 300 images/s at")
    assert "for 4 callers at once, the best that was measured on 4 cores" in best.reason


def test_a_limit_in_time_takes_the_best_within_it_under_load() -> None:
    best = plan_under_load(*LOADED, slo_ms=70)
    assert (best.instances, best.threads, best.max_batch, best.preferred) == (4, 1, 4, (4,))
    assert best.delay_us == 10_000  # 70 - 60: what the limit leaves
    assert best.timeout_us == 70_000
    assert plan_under_load(*LOADED, limit=1).max_batch == 1
    assert plan_under_load(*LOADED, max_p99_ms=30).max_batch == 1


def test_an_engine_that_was_not_under_load_is_planned_by_its_latencies() -> None:
    other = ServedPoint("openvino.int8", 4, 1, 1, 8, 30, 900, 5, 9, Speedup(1, (1, 1)))
    best = plan_under_load(other)
    assert (best.instances, best.threads, best.max_batch) == (2, 2, 1)
    # What answers within no limit under load may do so alone.
    assert plan_under_load(*LOADED, slo_ms=15).instances == 2
