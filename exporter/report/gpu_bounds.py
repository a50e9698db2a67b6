"""How near an engine on a GPU is to what that GPU can do: its kernels' least times, its ceiling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.artifact import Skipped
from exporter.builds.records import Manifest
from exporter.measure.timing import GpuCeilings, Latency, LowerBound
from exporter.report.engines import EngineView
from exporter.report.traced import Figure, Traced, derived


@dataclass(frozen=True)
class BoundRow:
    """One engine at the batch size of its bound."""

    engine: EngineView
    bound: Traced[LowerBound]
    latency: Traced[Latency]
    of_time: Figure
    """How much of the time that it takes its kernels must take."""
    of_ceiling: Figure | None
    """The network's operations a second, of the most that its precision reaches."""
    memory_bound: int
    """How many of its kernels the memory bounds."""


def bound_rows(manifest: Traced[Manifest], engines: Sequence[EngineView]) -> tuple[BoundRow, ...]:
    """A row for each engine that was timed on a GPU and whose kernels are known."""
    ceilings = gpu_ceilings_of(manifest)
    found = []
    for engine in engines:
        bound = engine.record.bound
        for latency in engine.entry.latency_by_batch:
            compute = latency.raw.compute
            if (
                ceilings is None
                or not isinstance(bound, LowerBound)
                or latency.raw.batch != bound.batch
                or compute is None
                or not 0 < compute.p50_ms < math.inf
            ):
                continue
            entry = engine.entry.bound
            share = bound.least_us / 1e3 / compute.p50_ms
            found.append(
                BoundRow(
                    engine,
                    entry,
                    latency,
                    derived(share, _percent(share), entry.least_us, latency.compute.p50_ms),
                    _of_ceiling(manifest, ceilings, engine, latency),
                    sum(kernel.bound == "memory" for kernel in bound.kernels),
                )
            )
    return tuple(found)


def gpu_ceilings_of(manifest: Traced[Manifest]) -> Traced[GpuCeilings] | None:
    """What was measured of this machine's GPU; None: nothing was."""
    skipped = isinstance(manifest.raw.host.gpu_ceilings, Skipped)
    return None if skipped else manifest.host.gpu_ceilings


def _of_ceiling(
    manifest: Traced[Manifest],
    ceilings: Traced[GpuCeilings],
    engine: EngineView,
    latency: Traced[Latency],
) -> Figure | None:
    precision, compute = engine.record.precision, latency.raw.compute
    most = ceilings.raw.gops.get(precision)
    if not most or compute is None:
        return None
    rate = 2 * manifest.raw.model.macs * latency.raw.batch / compute.p50_ms / 1e6
    sources = (manifest.model.macs, latency.batch, latency.compute.p50_ms)
    return derived(rate / most, _percent(rate / most), *sources, ceilings.gops[precision])


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
