"""Which evaluation inputs a search looks at, and which it does not.

Calibration has its own inputs, which no engine is compared on. Of the evaluation inputs, which come
in the order of their contents' hashes, every other one guides the search (SEARCHED at most); all
that are left are held out: the budget must hold on them, and the search knows of each look at them
nothing but whether it did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from exporter.artifact import Skipped
from exporter.errors import UsageError
from exporter.prove.reference import Reference
from exporter.search.budget import Budget, BudgetKind

SEARCHED: Final = 256
"""How many inputs guide a search at most: it runs them for each set that it tries."""
FEWEST_HELD_OUT: Final = 8


@dataclass(frozen=True)
class Split:
    """The reference's answers in two parts that share no input."""

    searched: Reference
    held_out: Reference


def split(reference: Reference, budget: Budget) -> Split:
    """The two parts of the evaluation inputs.

    Raises:
        UsageError: there are too few for the budget, or they lack what it is about.
    """
    count = reference.inputs.count
    searched = list(range(0, count, 2))[:SEARCHED]
    held_out = sorted(set(range(count)) - set(searched))
    if budget.kind is not BudgetKind.MIN_SQNR and reference.scores is None:
        raise UsageError(
            f"--{budget.kind} is about classes, and the network has no scores of them; "
            "give --min-sqnr"
        )
    if budget.kind is BudgetKind.MAX_DROP and reference.inputs.labels is None:
        raise UsageError(
            f"--max-drop needs labels, and {reference.inputs.source} has none; give --data with a "
            "folder for each class, or --min-agreement or --min-sqnr"
        )
    needed = max(FEWEST_HELD_OUT, _resolving(budget))
    if len(held_out) < needed:
        raise UsageError(
            f"{budget.option} needs {needed} held-out inputs to be told apart from none, and of "
            f"{count} that engines are compared on {len(held_out)} are held out; give --samples "
            f"{needed + min(needed, SEARCHED)} or more, with as much --data"
        )
    return Split(_part(reference, searched), _part(reference, held_out))


def _resolving(budget: Budget) -> int:
    """How many inputs show a share as small as the budget: one of them must not exceed it."""
    if budget.kind is BudgetKind.MIN_SQNR:
        return 1
    share = budget.limit if budget.kind is BudgetKind.MAX_DROP else 1 - budget.limit
    return math.ceil(round(1 / share, 6))


def _part(reference: Reference, indices: list[int]) -> Reference:
    rows = np.array(indices)
    return replace(
        reference,
        inputs=reference.inputs.select(indices).held(),
        outputs=reference.outputs[rows],
        outputs_float64=Skipped("of the first inputs alone"),
    )
