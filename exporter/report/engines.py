"""How one engine is named, marked and told apart, everywhere on the page.

Colour says the precision (Okabe and Ito's palette), shape says the runtime, and a letter says which
engine it is: no reader has to tell colours apart.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.artifact import Precision
from exporter.builds.records import EngineRecord, Manifest
from exporter.errors import UsageError
from exporter.measure.timing import BlockTime, Latency, Profile
from exporter.prove.certificate import BlockDrift, BlockReceipt, Parity
from exporter.report.traced import Traced
from exporter.targets import Mark, target_class


@dataclass(frozen=True)
class EngineView:
    """An engine of the manifest with its marks."""

    entry: Traced[EngineRecord]
    """What figures are made of; decisions are made on `record` and what follows it."""
    letter: str
    shape: Mark

    @property
    def record(self) -> EngineRecord:
        return self.entry.raw

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def colour(self) -> Precision:
        """A class of the style sheet."""
        return self.record.precision

    @property
    def latency(self) -> Latency | None:
        """At the first batch size; None: it was not measured."""
        found = self.record.latency
        return found if isinstance(found, Latency) else None

    @property
    def compute(self) -> bool:
        """Whether it was timed on a GPU."""
        return any(latency.compute for latency in self.record.latencies)

    @property
    def trtexec(self) -> tuple[str, ...]:
        """The command lines of NVIDIA's tool that measure the same, one a batch size."""
        lines = self.record.requires.get("trtexec", {})
        return tuple(lines.values()) if isinstance(lines, Mapping) else (str(lines),)

    @property
    def parity(self) -> Parity | None:
        """None: it was not checked."""
        found = self.record.parity
        return found if isinstance(found, Parity) else None

    @property
    def profile(self) -> Traced[Profile] | None:
        """Where its time goes; None: `record.profile` says why it is not known."""
        return self.entry.profile if isinstance(self.record.profile, Profile) else None

    @property
    def drift(self) -> Traced[tuple[BlockDrift, ...]] | None:
        """The errors at each block's output, where they were asked for."""
        return self.entry.parity.blocks if self.parity and self.parity.blocks else None

    def block(self, name: str) -> Traced[BlockReceipt] | None:
        """What became of a residual block, where the receipt says so."""
        return _named(self.entry.receipt.blocks, name)

    def block_time(self, name: str) -> Traced[BlockTime] | None:
        """How long a residual block takes, where the profile says so."""
        return _named(self.profile.blocks, name) if self.profile else None

    def block_drift(self, name: str) -> Traced[BlockDrift] | None:
        """The error at a residual block's output, where it was asked for."""
        return _named(self.drift, name) if self.drift else None


def _named(entries: Iterable[Traced[Any]], name: str) -> Traced[Any] | None:
    return next((entry for entry in entries if entry.raw.name == name), None)


def views(manifest: Traced[Manifest]) -> tuple[EngineView, ...]:
    """All engines, in the manifest's order."""
    letters = [a + b for a in ("", *string.ascii_uppercase) for b in string.ascii_uppercase]
    return tuple(
        EngineView(entry, letters[i], mark_of(entry.raw.target))
        for i, entry in enumerate(manifest.engines)
    )


def mark_of(target: str) -> Mark:
    """The shape of a target, also of one that only another version has."""
    try:
        return target_class(target).mark
    except UsageError:  # a build of another version, with a target that is not ours
        return Mark.CIRCLE
