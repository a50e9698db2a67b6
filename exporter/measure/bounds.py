"""The least time that an engine's kernels can take on the GPU that was measured.

    a kernel takes at least max(bytes that it reads and writes / copy rate,
                                2 * multiply-accumulates / the ceiling of its type)

Bytes and multiply-accumulates follow from the shapes that the engine's own inspector tells, rates
are this GPU's (`gpu_ceilings.py`). What is in the L2 cache is read faster than it is copied, so a
small kernel may take less than its bound by memory; none takes less than that by arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from exporter.artifact import ElementType, Engine, Skipped
from exporter.errors import BuildError
from exporter.measure.timing import GpuCeilings, KernelBound, LowerBound
from exporter.targets import (
    KernelTraffic,
    TellsTraffic,
    UnreadableKernels,
    get_target,
)


def bound_of(
    engine: Engine, root: Path, batch: int, ceilings: GpuCeilings | Skipped
) -> LowerBound | Skipped:
    """The bound of an engine of the build in `root`, or why there is none."""
    if isinstance(ceilings, Skipped):
        return ceilings
    target = get_target(engine.target)
    if not isinstance(target, TellsTraffic):
        return Skipped(f"{engine.target} does not tell the shapes of its kernels")
    try:
        kernels = target.traffic(root / engine.path, batch)
    except (UnreadableKernels, BuildError) as error:
        return Skipped(f"its kernels cannot be read: {error}")
    return lower_bound(kernels, batch, ceilings)


def lower_bound(
    kernels: Iterable[KernelTraffic], batch: int, ceilings: GpuCeilings
) -> LowerBound | Skipped:
    """The bound of these kernels, one after the other."""
    found = []
    for kernel in kernels:
        gops = _ceiling(kernel.dtype, ceilings)
        if kernel.macs and gops is None:
            return Skipped(f"no product in {kernel.dtype} was measured on this GPU")
        memory_us = kernel.bytes / ceilings.copy_gb_s / 1e3
        arithmetic_us = 2 * kernel.macs / gops / 1e3 if gops else 0.0
        found.append(
            KernelBound(
                name=kernel.name,
                dtype=kernel.dtype,
                macs=kernel.macs,
                bytes=kernel.bytes,
                least_us=max(memory_us, arithmetic_us),
                bound="memory" if memory_us >= arithmetic_us else "arithmetic",
            )
        )
    return LowerBound(batch, sum(one.least_us for one in found), tuple(found))


def _ceiling(dtype: ElementType, ceilings: GpuCeilings) -> float | None:
    """GOP/s of products in a type; FP32 is without TF32, as engines are built."""
    return ceilings.gops.get("int8" if dtype is ElementType.UINT8 else dtype)
