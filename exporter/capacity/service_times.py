"""How long an engine computes: the measured samples, alone and beside busy neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.measure.throughput import QUANTILES, Layout, ServedPoint

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ServiceTimes:
    """Of one layout of an engine: the time of a call, as quantiles of what was measured."""

    layout: Layout
    alone: Mapping[int, Floats]
    """Of each measured batch size, in seconds, while the layout's other instances are idle."""
    busy: Mapping[int, Floats]
    """The same while all instances compute."""

    @property
    def instances(self) -> int:
        """Calls that are computed side by side."""
        return self.layout.processes * self.layout.streams

    @property
    def batches(self) -> tuple[int, ...]:
        """The sizes that were measured."""
        return tuple(sorted(self.busy))

    def images_per_s(self, batch: int, overhead_s: float = 0.0) -> float:
        """What all instances answer that never wait, in batches of this measured size.

        Each image takes `overhead_s` more of the instance.
        """
        return self.instances * batch / (float(np.mean(self.busy[batch])) + batch * overhead_s)

    def durations(self, batch: int, level: float) -> tuple[float, ...]:
        """Seconds of a call with 1, 2, ... all instances busy, at a level of its distribution.

        Batches between two measured sizes take a time between, as do numbers of busy instances.
        """
        first, last = (self._at(one, batch, level) for one in (self.alone, self.busy))
        count = self.instances
        if count == 1:
            return (last,)
        return tuple(first + (last - first) * k / (count - 1) for k in range(count))

    def _at(self, measured: Mapping[int, Floats], batch: int, level: float) -> float:
        sizes = sorted(measured)
        values = [float(np.interp(level, QUANTILES, measured[size])) for size in sizes]
        return float(np.interp(batch, sizes, values))


def service_times(points: Iterable[ServedPoint]) -> list[ServiceTimes]:
    """What can be simulated: each layout whose calls were measured at batch 1, alone and busy."""
    by_layout: dict[Layout, list[ServedPoint]] = {}
    for point in points:
        if point.calls_ms and (
            point.alone_ms or point.layout.processes * point.layout.streams == 1
        ):
            by_layout.setdefault(point.layout, []).append(point)
    return [
        ServiceTimes(
            layout,
            alone={p.batch: np.array(p.alone_ms or p.calls_ms) / 1e3 for p in found},
            busy={p.batch: np.array(p.calls_ms) / 1e3 for p in found},
        )
        for layout, found in by_layout.items()
        if any(p.batch == 1 for p in found)
    ]
