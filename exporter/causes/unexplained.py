"""What is left when every known cause has had its say."""

from __future__ import annotations

from collections.abc import Collection

from exporter.causes.case import Case, counted
from exporter.causes.finding import Claim
from exporter.prove.kernel_graph import NO_ARITHMETIC


def find(case: Case, free: Collection[int]) -> Claim | None:
    """The kernels that compute something and that nothing accounts for."""
    seeds = [i for i in sorted(free) if not NO_ARITHMETIC.issuperset(case.kernels[i].does)]
    if not seeds:
        return None
    names = counted(f"{case.kernels[i].name} in {case.kernels[i].dtype}" for i in seeds)
    return Claim(
        f"{len(seeds)} kernels are apart or in a wider type for no reason known here ({names})",
        "compare with what our own build makes of the network",
        frozenset(seeds),
        built_away=False,
    )
