"""The simulated server: queueing theory's own figures, and Triton's rules one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.capacity.arrivals import Floats, poisson
from exporter.capacity.batcher import Served, Server, simulate
from exporter.capacity.service_times import ServiceTimes
from exporter.measure.throughput import QUANTILES, Layout

STEADY = np.ones(len(QUANTILES))


def times(
    seconds: dict[int, float], instances: int = 1, *, busy: float = 1.0, shape: Floats = STEADY
) -> ServiceTimes:
    """Calls of these lengths by batch size, and `busy` times as long beside busy neighbours."""
    alone = {batch: length * shape for batch, length in seconds.items()}
    full = {batch: busy * calls for batch, calls in alone.items()}
    return ServiceTimes(Layout(instances, 1, 1), alone, full)


def served(arrivals: list[float], server: Server, calls: ServiceTimes) -> Served:
    return simulate(np.array(arrivals), server, calls, np.random.default_rng(0))


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_one_server_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    """M/D/1: the mean wait is load / (2 (1 - load)) of a call, besides the call itself."""
    random = np.random.default_rng(1)
    found = simulate(poisson(load / 0.01, 20_000, random), Server(), times({1: 0.01}), random)
    expected = 0.01 * (1 + load / (2 * (1 - load)))
    assert float(found.waits_s.mean()) == pytest.approx(expected, rel=0.08)
    assert found.busy_s / found.seconds == pytest.approx(load, rel=0.05)


def test_two_servers_wait_as_erlang_says() -> None:
    """M/M/2: a request takes 1 / (1 - load^2) calls in the mean."""
    exponential = -np.log(1 - np.clip(np.array(QUANTILES), 0.002, 0.995))
    mean = float(np.trapezoid(exponential, QUANTILES))
    calls = times({1: 0.01 / mean}, 2, shape=exponential)
    random = np.random.default_rng(2)
    found = simulate(poisson(2 * 0.7 / 0.01, 20_000, random), Server(), calls, random)
    assert float(found.waits_s.mean()) == pytest.approx(0.01 / (1 - 0.7**2), rel=0.1)


def test_a_lone_request_waits_for_company_and_goes_when_the_delay_is_over() -> None:
    server = Server(8, (4, 8), delay_s=0.02, overhead_s=0.001)
    found = served([1.0], server, times({1: 0.01, 8: 0.04}))
    assert found.waits_s.tolist() == pytest.approx([0.031])


def test_a_preferred_size_goes_at_once() -> None:
    server = Server(8, (4, 8), delay_s=1.0)
    found = served([0.0, 0.001, 0.002, 0.003], server, times({1: 0.01, 4: 0.03, 8: 0.05}))
    assert found.batches == 1
    assert max(found.waits_s) == pytest.approx(0.033)


def test_what_waits_for_an_instance_grows_to_the_largest_batch() -> None:
    calls = times({1: 0.1, 8: 0.1})
    found = served([0.0, *[0.01 + n / 1000 for n in range(8)]], Server(8, (8,), 0.005), calls)
    assert found.batches == 2  # the first alone after its delay, then all eight
    assert found.mean_batch == 4.5


def test_without_a_delay_requests_go_as_they_come() -> None:
    calls = times({1: 0.01, 8: 0.01})
    assert served([0.0, 0.02, 0.04], Server(8, (8,)), calls).batches == 3
    found = served([0.0, 0.001, 0.002, 0.003], Server(8, (8,)), calls)
    assert found.batches == 2  # one, and the three that came meanwhile
    assert max(found.waits_s) == pytest.approx(0.019)


def test_without_batching_each_request_is_a_call() -> None:
    found = served([0.0, 0.0, 0.0], Server(timeout_s=0.001), times({1: 0.01}))
    assert sorted(found.waits_s) == pytest.approx([0.01, 0.02, 0.03])
    assert found.rejected == 0  # its queue has no timeout


def test_who_waits_beyond_the_timeout_is_rejected() -> None:
    server = Server(2, (2,), delay_s=0.0, timeout_s=0.05)
    found = served([n / 1000 for n in range(40)], server, times({1: 0.1, 2: 0.1}))
    assert found.rejected > 20
    assert found.rejected + len(found.waits_s) == 40
    # Two payloads wait for the instance; what is in one is no longer rejected.
    assert max(found.waits_s) <= 0.05 + 3 * 0.1 + 1e-9


def test_neighbours_cost_what_was_measured() -> None:
    calls = times({1: 0.01}, 2, busy=1.5)
    assert served([0.0], Server(), calls).waits_s.tolist() == pytest.approx([0.01])
    assert max(served([0.0, 0.0], Server(), calls).waits_s) == pytest.approx(0.015)
    # Half of it alone, the rest beside the other: 5 + 7.5 ms; the other then ends alone.
    found = served([0.0, 0.005], Server(), calls)
    assert found.waits_s.tolist() == pytest.approx([0.0125, 0.0125])


def test_the_servers_own_work_is_taken_from_instances_that_are_all_busy() -> None:
    server = Server(busy_overhead_s=0.002)
    alone = served([0.0, 0.02], server, times({1: 0.01}))
    assert alone.waits_s.tolist() == pytest.approx([0.01, 0.01])  # they find it idle
    found = served([0.0, 0.005], server, times({1: 0.01}))
    assert found.waits_s.tolist() == pytest.approx([0.012, 0.017])  # the second slows the first
    side_by_side = served([0.0, 0.005], server, times({1: 0.01}, 2))
    assert side_by_side.waits_s.tolist() == pytest.approx([0.01, 0.01])  # a core was idle
    third = served([0.0, 0.005, 0.006], server, times({1: 0.01}, 2))
    assert third.waits_s.tolist() == pytest.approx([0.011, 0.011, 0.015])


@pytest.mark.parametrize(("instances", "batch"), [(1, 1), (2, 1), (1, 4)])
def test_with_the_servers_own_work_it_saturates_at_what_is_said(instances: int, batch: int) -> None:
    calls = times({1: 0.01, 4: 0.03}, instances)
    server = Server(batch, (batch,) if batch > 1 else (), busy_overhead_s=0.003)
    limit = calls.images_per_s(batch, 0.003)
    random = np.random.default_rng(3)
    found = simulate(poisson(2 * limit, 4000, random), server, calls, random)
    assert found.waits_s.size / found.seconds == pytest.approx(limit, rel=0.03)


def test_sizes_between_measured_ones_take_a_time_between() -> None:
    calls = times({1: 0.01, 4: 0.04, 8: 0.06})
    assert calls.durations(6, 0.5) == pytest.approx((0.05,))
    three = times({1: 0.01}, 3, busy=2.0)
    assert three.durations(1, 0.0) == pytest.approx((0.01, 0.015, 0.02))


@settings(deadline=None, max_examples=60)
@given(
    gaps=st.lists(st.floats(0, 0.05), min_size=1, max_size=60),
    largest=st.sampled_from([1, 2, 4, 8]),
    instances=st.integers(1, 3),
    delay=st.sampled_from([0.0, 0.005, 0.05]),
    timeout=st.sampled_from([0.02, math.inf]),
)
def test_every_request_is_answered_once_or_rejected(
    gaps: list[float], largest: int, instances: int, delay: float, timeout: float
) -> None:
    preferred = tuple(size for size in (2, 4, 8) if size <= largest)
    server = Server(largest, preferred, delay, timeout)
    calls = times({1: 0.01, 8: 0.04}, instances, busy=1.2)
    found = served(list(np.cumsum(gaps)), server, calls)
    assert len(found.waits_s) + found.rejected == len(gaps)
    if timeout == math.inf:
        assert found.rejected == 0
    assert len(found.waits_s) <= largest * found.batches
    assert not len(found.waits_s) or min(found.waits_s) >= 0.01 - 1e-9
