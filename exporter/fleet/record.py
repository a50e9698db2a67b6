"""What sweep.json holds: each build's figures, on which hardware, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from exporter.host import Host
from exporter.report.flat import FlatReport

KIND: Final = "sweep"
SCHEMA: Final = 1


@dataclass(frozen=True)
class Limits:
    """What an engine must keep to be chosen; None: anything will do."""

    p99_ms: float | None = None
    drop: float | None = None
    """The share of the images that may lose their right answer."""

    def keeps_time(self, offer: Offer) -> bool:
        """Whether it is fast enough."""
        return self.p99_ms is None or offer.p99_ms <= self.p99_ms

    def keeps_drop(self, offer: Offer) -> bool:
        """Whether it is exact enough; what is not known is not."""
        return self.drop is None or offer.lost <= self.drop

    def keeps(self, offer: Offer) -> bool:
        """Whether it may be chosen."""
        return self.keeps_time(offer) and self.keeps_drop(offer)

    def __str__(self) -> str:
        words = []
        if self.p99_ms is not None:
            words.append(f"p99 <= {self.p99_ms:g} ms")
        if self.drop is not None:
            words.append(f"drop <= {100 * self.drop:.4g}%")
        return " and ".join(words)


@dataclass(frozen=True, kw_only=True)
class HardwareRecord(Host):
    """A kind of machine: what its nodes are, as the doctor sees it there."""

    name: str
    nodes: int
    """How many of them there were."""
    price: float | None
    """Of one for an hour."""


@dataclass(frozen=True)
class BuildRecord:
    """One build: a model on one kind of machine."""

    model: str
    hardware: str
    build: str
    """Its folder in the store."""
    report: FlatReport


@dataclass(frozen=True)
class FailedJob:
    """A build that there is none of."""

    model: str
    hardware: str
    reason: str

    def __str__(self) -> str:
        return f"{self.model} on {self.hardware}: {self.reason}"


@dataclass(frozen=True)
class Offer:
    """One engine at one batch size on one kind of machine."""

    model: str
    hardware: str
    engine: str
    batch: int
    p99_ms: float
    stable: bool
    """The timing settled."""
    images_per_s: float
    """Of one process that answers batch after batch on all cores."""
    drop: float | None
    """The accuracy that it loses against the reference; without labels the share of the images that
    get another class, which is no less. None: neither was measured."""
    cost_a_million: float | None
    """Of a million images; None: no price was given."""

    @property
    def lost(self) -> float:
        """The drop; infinity where it is not known."""
        return math.inf if self.drop is None else self.drop


@dataclass(frozen=True)
class Choice:
    """The offer to take of one model, or why there is none."""

    model: str
    best: Offer | None
    impossible: str = ""
    """What the best is, in words, where no offer keeps the limits."""


@dataclass(frozen=True)
class SweepRecord:
    """Everything that a sweep found."""

    name: str
    store: str
    """As it was given."""
    limits: Limits
    hardware: tuple[HardwareRecord, ...]
    builds: tuple[BuildRecord, ...]
    failed: tuple[FailedJob, ...]
    offers: tuple[Offer, ...]
    choices: tuple[Choice, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """Each job that failed, and what failed inside of the others, a line each."""
        return (
            *map(str, self.failed),
            *(
                f"{one.model} on {one.hardware}: {failure}"
                for one in self.builds
                for failure in one.report.failures
            ),
        )
