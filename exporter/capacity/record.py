"""What a capacity plan says: frozen data, printed as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from exporter.measure.throughput import Layout

CONFIDENCE: Final = 0.95
"""Of the intervals, over simulations that differ by their random numbers alone."""


@dataclass(frozen=True)
class Estimate:
    """The mean over simulations, and its interval."""

    value: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Serving:
    """How a machine is set up: what goes into Triton's `config.pbtxt`."""

    layout: Layout
    max_batch: int
    preferred: tuple[int, ...]
    delay_ms: float
    timeout_ms: float
    """A request that has waited longer is rejected."""

    def __str__(self) -> str:
        words = f"{self.layout} (processes x threads), "
        if self.max_batch == 1:
            return words + "no batching"
        return words + f"batches of up to {self.max_batch}, delay {self.delay_ms:.3g} ms"


@dataclass(frozen=True)
class LoadPoint:
    """One machine at one rate."""

    rate: float
    """Requests a second that come to it."""
    p50_ms: float
    p99_ms: float
    utilisation: float


@dataclass(frozen=True)
class Alternative:
    """What another set-up of the machine keeps of the limit."""

    serving: Serving
    most: float
    """Requests a second within the limit; 0: none."""
    least_p99_ms: float
    """Almost without load."""


@dataclass(frozen=True)
class Plan:
    """How many machines, how each is set up, and what its callers will see."""

    model: str
    engine: str
    machine: str
    """On which the calls were measured, in words; every machine of the plan is one like it."""
    cores: int
    arrivals: str
    rate: float
    """Images a second of the whole service."""
    slo_ms: float
    serving: Serving
    needed: int
    """Machines that keep the limit."""
    spare: int
    """More of them, which may be lost."""
    most: float
    """Images a second of one machine within the limit."""
    saturates: float
    """Images a second of one machine that is never idle."""
    p50_ms: Estimate
    """With all machines but the spare ones; p99 and p999 likewise."""
    p99_ms: Estimate
    p999_ms: Estimate
    utilisation: float
    """The share of the time that an instance computes."""
    rejected: float
    """The share of the requests that wait beyond the timeout."""
    mean_batch: float
    limit: str
    """What breaks first when the rate grows, in words."""
    cost_an_hour: float | None
    cost_a_million: float | None
    """Of a million images; None: no price was given."""
    curve: tuple[LoadPoint, ...]
    """Of one machine."""
    alternatives: tuple[Alternative, ...]
    """What else was simulated, the best first."""
    assumptions: tuple[str, ...]

    @property
    def machines(self) -> int:
        return self.needed + self.spare
