"""The budget that a request gives for mixed precision."""

from __future__ import annotations

from exporter.builds import converters
from exporter.builds.request import ExportRequest
from exporter.errors import UsageError
from exporter.search.budget import Budget, BudgetKind


def asked_budget(request: ExportRequest) -> Budget | None:
    """The one budget of a request; None: it asks for no mixed precision.

    Raises:
        UsageError: it gives several.
    """
    given: dict[BudgetKind, float] = {}
    if request.max_drop is not None:
        given[BudgetKind.MAX_DROP] = converters.fraction(request.max_drop)
    if request.min_sqnr is not None:
        given[BudgetKind.MIN_SQNR] = request.min_sqnr
    if request.min_agreement is not None:
        given[BudgetKind.MIN_AGREEMENT] = converters.fraction(request.min_agreement)
    if len(given) > 1:
        names = " and ".join(f"--{kind}" for kind in given)
        raise UsageError(f"{names} are a budget each; give one of them")
    return next((Budget(kind, limit) for kind, limit in given.items()), None)
