"""A runtime without arithmetic in the engine's type, which computes in a wider one behind casts."""

from __future__ import annotations

from collections.abc import Collection

from exporter.artifact import ElementType, Operation
from exporter.causes.case import Case
from exporter.causes.finding import Claim


def find(case: Case, free: Collection[int]) -> Claim | None:
    """Claims where not one convolution computes in the type of a half-precision graph."""
    convolutions = case.does(Operation.CONV, range(len(case.kernels)))
    types = {case.kernels[index].dtype for index in convolutions}
    own = ElementType(case.precision)
    if case.precision.quantized or not types or own in types or own is ElementType.FP32:
        return None
    return Claim(
        f"none of {len(convolutions)} convolutions computes in {case.precision.upper()}: the "
        f"runtime has no such arithmetic here and takes {', '.join(sorted(types))}",
        "choose INT8, or BF16 where the runtime and the CPU have it; the file is smaller, not "
        "faster",
        frozenset(free),
        built_away=False,
    )
