"""What was asked to stay in higher precision."""

from __future__ import annotations

from collections.abc import Collection

from exporter.causes.case import Case, counted
from exporter.causes.finding import Claim


def find(case: Case, free: Collection[int]) -> Claim | None:
    """The kernels inside the module paths that were to be kept."""
    found = [index for index in sorted(free) if case.is_kept(index)]
    if not found:
        return None
    return Claim(
        f"{counted(case.kept)} was to stay in float (--keep)",
        "leave --keep out, if the engine keeps its gates without it",
        frozenset(found),
    )
