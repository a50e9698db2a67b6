"""The roofline: each layer's achieved rate against what this machine can do (Williams et al. 2009).

Both axes are logarithmic. The roof is min(ceiling of the layer's type, intensity * copy rate).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from exporter.artifact import Skipped
from exporter.builds.records import Manifest
from exporter.measure.timing import Ceilings, LayerTime
from exporter.report import scales
from exporter.report.engines import EngineView
from exporter.report.scales import Scale
from exporter.report.traced import Figure, Traced, derived, significant

CEILINGS: Final = {
    "int8": "int8_gops", "uint8": "int8_gops", "bf16": "bf16_gops",
}  # fmt: skip
"""What a kernel computes in -> the ceiling that it is held against; any other type: FP32's."""


@dataclass(frozen=True)
class Point:
    """A layer's figures."""

    layer: Traced[LayerTime]
    rate: Figure
    """Giga-operations a second."""
    intensity: Figure
    """Operations a byte."""
    fraction: Figure
    """Of the roof above it."""


@dataclass(frozen=True)
class Dot:
    """One convolution or matrix product, where it is drawn."""

    point: Point
    x: float
    y: float


@dataclass(frozen=True)
class RooflinePanel:
    """One engine's layers under the roof of the type that it computes in."""

    engine: EngineView
    dots: tuple[Dot, ...]
    roof: tuple[tuple[float, float], ...]
    x: Scale
    y: Scale


def roofline_panels(
    manifest: Traced[Manifest], engines: Sequence[EngineView]
) -> tuple[RooflinePanel, ...]:
    """A panel an engine, on the same axes; none where `why_no_roofline` says so."""
    ceilings = ceilings_of(manifest)
    if ceilings is None:
        return ()
    found = []
    for engine in engines:
        layers = engine.profile.layers if engine.profile else ()
        points = [point for layer in layers if (point := _point(layer, ceilings))]
        if points:
            found.append((engine, points))
    tops = [ceilings.raw.fp32_gops, ceilings.raw.int8_gops]
    tops += [ceilings.raw.bf16_gops] if ceilings.raw.bf16_gops else []
    x = scales.decades([point.intensity.value for _, points in found for point in points])
    y = scales.decades([point.rate.value for _, points in found for point in points] + tops)
    return tuple(_panel(engine, points, ceilings.raw, x, y) for engine, points in found)


def ceilings_of(manifest: Traced[Manifest]) -> Traced[Ceilings] | None:
    """What was measured of this machine, where that makes a roof."""
    ceilings = manifest.raw.host.ceilings
    if isinstance(ceilings, Skipped) or not _positive(
        ceilings.fp32_gops, ceilings.int8_gops, ceilings.copy_gb_s
    ):
        return None
    return manifest.host.ceilings


def why_no_roofline(manifest: Manifest) -> str:
    """What is missing for one, in words."""
    ceilings = manifest.host.ceilings
    reasons = [f"ceilings: {ceilings.skipped}"] if isinstance(ceilings, Skipped) else []
    reasons += [e.profile.skipped for e in manifest.engines if isinstance(e.profile, Skipped)]
    return "; ".join(dict.fromkeys(reasons)) or "no layer was timed"


def _positive(*values: float) -> bool:
    return all(0 < value < math.inf for value in values)


def _point(layer: Traced[LayerTime], ceilings: Traced[Ceilings]) -> Point | None:
    time_us, macs, moved = layer.raw.microseconds, layer.raw.macs, layer.raw.bytes
    if not _positive(time_us, macs, moved):
        return None
    rate, intensity = 2 * macs / time_us / 1e3, 2 * macs / moved
    top: Traced[float | None] = getattr(ceilings, _ceiling_of(layer.raw))
    if top.raw is None:
        return None
    roof = _roof(intensity, top.raw, ceilings.raw)
    if not _positive(rate, intensity, roof):
        return None
    fraction = rate / roof
    sources = (layer.macs, layer.microseconds)
    return Point(
        layer,
        derived(rate, significant(rate), *sources),
        derived(intensity, significant(intensity), layer.macs, layer.bytes),
        derived(
            fraction,
            f"{100 * fraction:.0f}\N{NO-BREAK SPACE}%",
            *sources,
            top,
            ceilings.copy_gb_s,
        ),
    )


def _ceiling_of(layer: LayerTime) -> str:
    return CEILINGS.get(layer.dtype, "fp32_gops")


def _roof(intensity: float, top: float, ceilings: Ceilings) -> float:
    """GOP/s that are possible at so many operations a byte."""
    return min(top, intensity * ceilings.copy_gb_s)


def _panel(
    engine: EngineView, points: Sequence[Point], ceilings: Ceilings, x: Scale, y: Scale
) -> RooflinePanel:
    # Most layers' type decides which roof is drawn; each fraction is of its own layer's.
    usual, _ = Counter(_ceiling_of(point.layer.raw) for point in points).most_common(1)[0]
    top: float = getattr(ceilings, usual)
    start = max(x.low, y.low / ceilings.copy_gb_s)
    ridge = top / ceilings.copy_gb_s
    corners = sorted({start, min(max(ridge, start), x.high), x.high})
    return RooflinePanel(
        engine,
        tuple(
            Dot(point, x.place(point.intensity.value), y.place(point.rate.value))
            for point in points
        ),
        tuple((x.place(at), y.place(_roof(at, top, ceilings))) for at in corners),
        x,
        y,
    )
