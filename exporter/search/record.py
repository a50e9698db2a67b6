"""What the manifest keeps of a search for mixed precision."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.artifact import Precision, Skipped
from exporter.search.budget import Budget, BudgetKind


@dataclass(frozen=True)
class FrontPoint:
    """A set that none of those tried is both faster and nearer to the reference than."""

    kept: tuple[str, ...]
    ms: float
    """Of one inference, as the search measured it."""
    rel_l2: float
    sqnr_db: float
    agreement: float | Skipped
    drop: float | Skipped
    """All figures on the inputs that guided the search."""


@dataclass(frozen=True)
class MixedSearch:
    """How the blocks that an engine keeps in float were found."""

    budget: BudgetKind
    limit: float
    """Of agreement and drop a share, of SQNR decibels."""
    found: float
    """The same figure of the engine's answers to the inputs that were held out."""
    kept: tuple[str, ...]
    """Names of residual blocks, "stem", "head", or of layers outside all blocks."""
    keep: tuple[str, ...]
    """The same as names of modules and nodes, for `--keep`."""
    searched: int
    """Inputs that guided the search."""
    held_out: int
    """Inputs that did not."""
    looks: int
    """How many sets were held against those until one kept the budget."""
    int8_ms: float
    ms: float
    tried: int
    """Sets that were built, run and timed."""
    front: tuple[FrontPoint, ...]
    """The fastest first."""
    kept_in: Precision = Precision.FP32
    """The float type of what is kept."""

    @property
    def in_words(self) -> str:
        """What was found, for people."""
        budget = Budget(self.budget, self.limit)
        kept = ", ".join(self.kept) or "no block"
        return (
            f"keeps {kept} in {self.kept_in.upper()}: {budget.in_words(self.found)} on "
            f"{self.held_out} held-out inputs for {budget.option}, {self.ms:.2f} ms "
            f"where INT8 takes {self.int8_ms:.2f} ({self.tried} sets tried)"
        )
