"""What the release gate found of a build's engines: frozen data, part of the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.artifact import Skipped

UNLABELLED = Skipped("the images have no labels")
NOT_COMPARED = Skipped("decoders were not compared")


class Decision(StrEnum):
    """Whether an engine may be released."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    UNDECIDED = "not enough images"


@dataclass(frozen=True)
class GateFlip:
    """An image to which an engine answers another class than the reference."""

    image: str
    """Its file below the folder, or its number among the tensors."""
    reference: str
    """The class that the reference answers."""
    engine: str
    label: str
    """The right one; "": not known."""
    margin: float
    """By how much the reference prefers its own class to the engine's, in its outputs' units."""
    thumbnail: str = ""
    """The image, small, as a data URI; "": it came as a tensor that is no image."""


@dataclass(frozen=True)
class GatedEngine:
    """One engine's decision, and the counts and bounds behind it."""

    id: str
    decision: Decision
    judged: int
    """Images that are no near-ties."""
    near_ties: int
    flips: int
    flips_at_least: float
    """The exact one-sided bounds of the share of flips among the judged images."""
    flips_at_most: float
    lost: int | Skipped = UNLABELLED
    """Images that the reference alone answers as labelled."""
    gained: int | Skipped = UNLABELLED
    """Images that the engine alone does."""
    top1: float | Skipped = UNLABELLED
    top1_reference: float | Skipped = UNLABELLED
    drop_at_least: float | Skipped = UNLABELLED
    """The exact one-sided bounds of the accuracy that is lost."""
    drop_at_most: float | Skipped = UNLABELLED
    more_images: int | None = None
    """About how many more would decide; None: it is decided, or ten millions would not."""
    flipped: tuple[GateFlip, ...] = ()
    """The flips, the widest margin first; of many the first few."""

    @property
    def in_words(self) -> str:
        """The decision, for people."""
        if self.decision is not Decision.UNDECIDED:
            return str(self.decision)
        if self.more_images is None:
            return f"{self.decision}: ten million more would not decide"
        return f"{self.decision}: about {self.more_images:,} more would decide"


@dataclass(frozen=True)
class Decoders:
    """The reference's answers to the same pictures, from the contract's decoder and from OpenCV."""

    contract: str
    """The one whose pixels the contract, the goldens and the accuracy are about, in words."""
    other: str
    judged: int
    """Images that are no near-ties."""
    near_ties: int
    flips: int
    """Images that get another class, or cannot be decoded by the other."""
    top1: float | Skipped = UNLABELLED
    top1_other: float | Skipped = UNLABELLED
    flipped: tuple[GateFlip, ...] = ()
    """The flips, the widest margin first; `engine` is the answer to the other's picture."""

    @property
    def points(self) -> float:
        """The share of the judged images that get the same class, in points of a hundred."""
        return 100 * (1 - self.flips / self.judged) if self.judged else 100.0


@dataclass(frozen=True)
class Gate:
    """What `exporter gate` found last."""

    data: str
    """The images' source, in words."""
    images: int
    sha256: str
    """Over the images' own hashes."""
    reference: str
    max_drop: float
    max_flips: float
    confidence: float
    engines: tuple[GatedEngine, ...]
    unreadable: tuple[str, ...] = ()
    """Files that were left out, the first few."""
    notes: tuple[str, ...] = ()
    decoders: Decoders | Skipped = NOT_COMPARED
    """What serving with OpenCV's pictures would change."""

    def engine(self, identity: str) -> GatedEngine | None:
        """What was found of an engine; None: it was not gated."""
        return next((one for one in self.engines if one.id == identity), None)
