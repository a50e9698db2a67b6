"""From measured calls to machines: the set-up that keeps the limit at the highest rate, simulated.

For each layout whose calls were measured, with each largest batch and with and without a delay, the
rate of one machine is raised until p99 passes the limit. The best of them is simulated again at
length, several times, and gives way until the interval of p99 lies within the limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np

from exporter.capacity.arrivals import Arrivals
from exporter.capacity.batcher import Served, Server, simulate
from exporter.capacity.record import CONFIDENCE, Alternative, Estimate, LoadPoint, Serving
from exporter.capacity.service_times import ServiceTimes
from exporter.errors import UsageError
from exporter.progress import Progress

SEARCH_REQUESTS: Final = 1500
"""Of one simulation while set-ups are compared."""
REQUESTS: Final = 5000
"""Of one simulation of the best set-up."""
REPEATS: Final = 6
FULLEST: Final = 0.95
"""Of the rate at which it saturates, the most that is planned: beyond, queues take longer to
settle than a simulation lasts."""
IDLE: Final = 0.02
_STEPS: Final = 6
"""Halvings of the rate's interval."""
_GIVE_WAY: Final = 0.97
_SAME: Final = 0.995
"""So near to a rate that was simulated, it is not simulated again."""
_WARM_UP: Final = 0.1
"""The part of the requests that is not counted: the queue is empty in the beginning."""
CURVE: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Of the rate at which the machine saturates."""


@dataclass(frozen=True)
class Demand:
    """What is asked of the service."""

    rate: float
    """Images a second."""
    slo_ms: float
    arrivals: Arrivals
    spare: int
    overhead_ms: float
    busy_overhead_ms: float
    price: float | None
    """Of a machine for an hour."""
    seed: int


@dataclass(frozen=True)
class Machine:
    """One machine's set-up, to be simulated."""

    times: ServiceTimes
    server: Server

    @property
    def saturates(self) -> float:
        """Images a second that it answers where requests never lack."""
        return self.times.images_per_s(self.server.max_batch, self.server.busy_overhead_s)

    @property
    def serving(self) -> Serving:
        server = self.server
        return Serving(
            self.times.layout,
            server.max_batch,
            server.preferred,
            round(1e3 * server.delay_s, 3),
            round(1e3 * server.timeout_s, 3),
        )


def machines(times: Sequence[ServiceTimes], demand: Demand) -> Iterator[Machine]:
    """Every set-up that is tried."""
    for one in times:
        delay_s = float(np.median(one.alone[1]))
        for largest in one.batches:
            preferred = tuple(size for size in one.batches if 1 < size <= largest)
            for delay in (0.0, delay_s) if largest > 1 else (0.0,):
                yield Machine(
                    one,
                    Server(
                        largest,
                        preferred,
                        delay,
                        timeout_s=demand.slo_ms / 1e3,
                        overhead_s=demand.overhead_ms / 1e3,
                        busy_overhead_s=demand.busy_overhead_ms / 1e3,
                    ),
                )


@dataclass(frozen=True)
class Found:
    """The best set-up, and what became of its requests."""

    machine: Machine
    most: float
    """Requests a second of one machine within the limit."""
    needed: int
    served: tuple[Served, ...]
    """Simulations of one machine of those that are needed."""
    alternatives: tuple[Alternative, ...]


def find(times: Sequence[ServiceTimes], demand: Demand, progress: Progress) -> Found:
    """The set-up that keeps the limit at the highest rate, and how many machines that makes.

    Raises:
        UsageError: no set-up keeps the limit; the message says what the best does.
    """
    tried: list[tuple[Machine, Alternative]] = []
    every = sorted(machines(times, demand), key=lambda one: -one.saturates)
    with progress.stage("simulate the set-ups", len(every)) as advance:
        for machine in every:
            known = max((one.most for _, one in tried), default=0.0)
            tried.append((machine, _most(machine, demand, known)))
            advance(1)
    tried.sort(key=lambda one: (-one[1].most, one[1].least_p99_ms))
    machine, best = tried[0]
    if not best.most:
        quickest = min((one for _, one in tried), key=lambda one: one.least_p99_ms)
        raise UsageError(
            f"--slo-ms {demand.slo_ms:g}: no set-up keeps it; the best, {quickest.serving}, "
            f"answers 99 % within {quickest.least_p99_ms:.3g} ms almost without load"
        )
    with progress.stage("simulate the best at length"):
        most = best.most
        while True:
            served = tuple(_run(machine, most, demand, REQUESTS, turn) for turn in range(REPEATS))
            high = estimate([percentile_ms(one, 99) for one in served]).ci95[1]
            if high <= demand.slo_ms:
                break
            most *= _GIVE_WAY
    needed = math.ceil(demand.rate / most)
    each = demand.rate / needed
    if each < _SAME * most:
        with progress.stage("simulate the plan"):
            served = tuple(_run(machine, each, demand, REQUESTS, turn) for turn in range(REPEATS))
    return Found(machine, most, needed, served, tuple(one for _, one in tried))


def curve(machine: Machine, demand: Demand) -> tuple[LoadPoint, ...]:
    """The machine at growing rates, nobody rejected."""
    patient = replace(machine, server=replace(machine.server, timeout_s=math.inf))
    return tuple(load_point(patient, share * machine.saturates, demand) for share in CURVE)


def load_point(machine: Machine, rate: float, demand: Demand) -> LoadPoint:
    """What callers see at a rate."""
    served = _run(machine, rate, demand, 2 * SEARCH_REQUESTS, 0)
    return LoadPoint(
        rate, percentile_ms(served, 50), percentile_ms(served, 99), utilisation(served, machine)
    )


def percentile_ms(served: Served, percent: float) -> float:
    """Of all requests: one that was rejected never got its answer."""
    start = int(_WARM_UP * len(served.waits_s))
    waits = np.append(served.waits_s[start:], np.full(served.rejected, np.inf))
    # Rejected ones may be at a percentile: interpolating towards them would give NaN.
    return 1e3 * float(np.percentile(waits, percent, method="higher"))


def utilisation(served: Served, machine: Machine) -> float:
    """The share of the time that an instance computes."""
    return served.busy_s / served.seconds / machine.times.instances


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of simulations, with the interval of that mean."""
    mean = float(np.mean(values))
    if len(values) < 2 or not math.isfinite(mean):
        return Estimate(mean, (mean, mean))
    half = float(scaled_t(len(values)) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return Estimate(mean, (mean - half, mean + half))


def scaled_t(count: int) -> float:
    """Student's t at CONFIDENCE, by Cornish and Fisher's expansion: 3 thousandths off at 5."""
    z, freedom = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), count - 1
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _most(machine: Machine, demand: Demand, known: float) -> Alternative:
    """The rate at which p99 reaches the limit, by halving; 0 where it never keeps it.

    A machine that cannot beat what is `known` is asked only whether it could.
    """
    least = _p99_ms(machine, IDLE * machine.saturates, demand)
    low, high = 0.0, FULLEST * machine.saturates
    if least <= demand.slo_ms:
        if _p99_ms(machine, high, demand) <= demand.slo_ms:
            low = high
        for _ in range(_STEPS if low < high else 0):
            middle = (low + high) / 2
            if _p99_ms(machine, middle, demand) <= demand.slo_ms:
                low = middle
            else:
                high = middle
            if high <= known:
                break
    return Alternative(machine.serving, low, least)


def _p99_ms(machine: Machine, rate: float, demand: Demand) -> float:
    return percentile_ms(_run(machine, rate, demand, SEARCH_REQUESTS, 0), 99)


def _run(machine: Machine, rate: float, demand: Demand, count: int, turn: int) -> Served:
    """The same turn has the same random numbers at every rate and in every set-up."""
    random = np.random.default_rng((demand.seed, turn))
    arrivals = demand.arrivals(rate, count, random)
    return simulate(arrivals, machine.server, machine.times, random)
