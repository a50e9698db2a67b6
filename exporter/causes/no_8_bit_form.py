"""Operators that no runtime is expected to fuse or to compute in 8 bits: gates, activations."""

from __future__ import annotations

from collections.abc import Collection

from exporter.causes.case import Case, counted
from exporter.causes.finding import Claim


def find(case: Case, free: Collection[int]) -> Claim | None:
    """The kernels that the receipt excuses, each with the reason that it gives."""
    seeds: list[int] = []
    reasons: dict[str, None] = {}
    for index in sorted(free):
        reason = case.unfusable.why(case.kernels[index], case.flow.blocks[index])
        if reason is not None:
            seeds.append(index)
            reasons[reason] = None
    if not seeds:
        return None
    return Claim(
        f"{len(seeds)} kernels do what the runtime is not known to fuse ({counted(reasons)})",
        "no command wins this: another activation or no gate would, and is trained, not compiled",
        frozenset(seeds),
        built_away=False,
    )
