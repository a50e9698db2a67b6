"""Which inputs guide a search, and which it does not see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporter.artifact import Skipped
from exporter.errors import UsageError
from exporter.images.samples import Samples
from exporter.prove.reference import Reference
from exporter.search.budget import Budget, BudgetKind
from exporter.search.split import SEARCHED, split


def reference(count: int, *, labels: bool = True) -> Reference:
    inputs = np.arange(count, dtype=np.float32)[:, None]
    samples = Samples.of("test", inputs, np.zeros(count, np.int64) if labels else None)
    return Reference("test", samples, inputs.astype(np.float64), Skipped("none"))


DROP = Budget(BudgetKind.MAX_DROP, 0.01)


@pytest.mark.parametrize("count", [540, 2000])
def test_no_input_is_in_both_parts_and_none_is_lost(count: int) -> None:
    parts = split(reference(count), DROP)
    searched, held_out = (
        next(one.inputs.batches(count))[:, 0] for one in (parts.searched, parts.held_out)
    )
    assert set(searched) & set(held_out) == set()
    assert len(searched) + len(held_out) == count
    assert len(searched) <= SEARCHED
    assert np.array_equal(parts.held_out.outputs[:, 0], held_out)


@pytest.mark.parametrize(
    ("given", "budget", "words"),
    [
        (reference(198), DROP, "needs 100 held-out inputs"),
        (reference(540, labels=False), DROP, "--max-drop needs labels"),
        (reference(14), Budget(BudgetKind.MIN_SQNR, 30.0), "needs 8 held-out inputs"),
        (reference(64), Budget(BudgetKind.MIN_AGREEMENT, 0.99), "needs 100 held-out inputs"),
        (replace(reference(540), scores=None), DROP, "no scores"),
    ],
)  # fmt: skip
def test_data_that_cannot_tell_is_refused(given: Reference, budget: Budget, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        split(given, budget)
