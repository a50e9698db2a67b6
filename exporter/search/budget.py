"""What a mixed engine may lose, and what was found of one against the reference."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.artifact import Skipped
from exporter.prove.distance import Floats
from exporter.prove.parity import check_accuracy, compare
from exporter.prove.reference import Reference


class BudgetKind(StrEnum):
    """Which figure a budget bounds; the value is the option's name."""

    MAX_DROP = "max-drop"
    MIN_SQNR = "min-sqnr"
    MIN_AGREEMENT = "min-agreement"


@dataclass(frozen=True)
class Figures:
    """How far the answers of one set of kept blocks are from the reference's."""

    rel_l2: float
    sqnr_db: float
    agreement: float | Skipped
    """The share of the inputs that get the reference's class."""
    drop: float | Skipped
    """The accuracy that is lost against labels; negative: gained."""

    @property
    def error(self) -> float:
        """The power of the error over the signal's: what independent errors add up in."""
        return self.rel_l2**2


@dataclass(frozen=True)
class Budget:
    """A bound that held-out answers must keep."""

    kind: BudgetKind
    limit: float
    """Of agreement and drop a share, of SQNR decibels."""

    def of(self, figures: Figures) -> float:
        """The figure that is bounded.

        Raises:
            ValueError: it was not obtained; `split` refuses such inputs first.
        """
        found = {
            BudgetKind.MAX_DROP: figures.drop,
            BudgetKind.MIN_SQNR: figures.sqnr_db,
            BudgetKind.MIN_AGREEMENT: figures.agreement,
        }[self.kind]
        if isinstance(found, Skipped):
            raise ValueError(found.skipped)
        return found

    def holds(self, figures: Figures) -> bool:
        """Whether the figure keeps the bound."""
        return self.short_by(figures) <= 0

    def short_by(self, figures: Figures) -> float:
        """How far the figure is on the wrong side of the bound; what is kept is not above 0."""
        found = self.of(figures)
        return found - self.limit if self.kind is BudgetKind.MAX_DROP else self.limit - found

    def in_words(self, figure: float) -> str:
        """A figure as it is told: "31.2 dB", "0.37 %"."""
        return f"{figure:.1f} dB" if self.kind is BudgetKind.MIN_SQNR else f"{100 * figure:.2f} %"

    @property
    def option(self) -> str:
        """As it is typed: "--min-sqnr 30"."""
        share = self.kind is not BudgetKind.MIN_SQNR
        return f"--{self.kind} " + (f"{100 * self.limit:.6g}%" if share else f"{self.limit:.6g}")


def figures_of(outputs: Floats, reference: Reference) -> Figures:
    """Of answers (N, values) to all of the reference's inputs."""
    parity = compare(outputs, reference, {"sqnr_db": 0.0})
    accuracy = check_accuracy(outputs, reference)
    return Figures(
        rel_l2=parity.rel_l2,
        sqnr_db=parity.sqnr_db,
        agreement=parity.top1_agreement,
        drop=Skipped("the inputs have no labels, or the network no scores")
        if accuracy is None
        else accuracy.top1_reference - accuracy.top1,
    )
