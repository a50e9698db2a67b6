"""The roofline: each layer's achieved rate against what this machine can do (Williams et al. 2009).

Both axes are logarithmic. The roof is min(ceiling of the layer's type, intensity * copy rate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.report import scales
from exporter.report.engines import EngineView
from exporter.report.scales import Scale
from exporter.report.traced import Figure, Traced, derived, number, significant


@dataclass(frozen=True)
class Dot:
    """One convolution or matrix product."""

    layer: Traced
    x: float
    y: float
    rate: Figure
    """Giga-operations a second."""
    intensity: Figure
    """Operations a byte."""
    fraction: Figure
    """Of the roof above it."""


@dataclass(frozen=True)
class RooflinePanel:
    """One engine's layers under the roof of the type that it computes in."""

    engine: EngineView
    dots: tuple[Dot, ...]
    roof: tuple[tuple[float, float], ...]
    x: Scale
    y: Scale


def roofline_panels(manifest: Traced, engines: Sequence[EngineView]) -> tuple[RooflinePanel, ...]:
    """A panel an engine, on the same axes; none where there is no profile or no ceiling."""
    ceilings = ceilings_of(manifest)
    profiled = [(e, e.profile) for e in engines if e.profile is not None]
    if ceilings is None or not profiled:
        return ()
    found = [
        (e, [dot for one in p["layers"] if (dot := _figures(one, ceilings))]) for e, p in profiled
    ]
    found = [(engine, dots) for engine, dots in found if dots]
    tops = [float(ceilings[key].raw) for key in ("fp32_gops", "int8_gops")]
    x = scales.decades([float(dot[2].value) for _, dots in found for dot in dots])
    y = scales.decades([float(dot[1].value) for _, dots in found for dot in dots] + tops)
    return tuple(_panel(engine, dots, ceilings, x, y) for engine, dots in found)


def ceilings_of(manifest: Traced) -> Traced | None:
    """What was measured of this machine, where it was."""
    host = manifest["host"]
    found = host["ceilings"] if host.has("ceilings") else None
    return found if found is not None and found.has("copy_gb_s") else None


def _figures(layer: Traced, ceilings: Traced) -> tuple[Traced, Figure, Figure, Figure] | None:
    time_us, macs, moved = (number(layer[key]) for key in ("microseconds", "macs", "bytes"))
    if not time_us or not macs or not moved:
        return None
    rate, intensity = 2 * macs / time_us / 1e3, 2 * macs / moved
    top = _ceiling(str(layer["dtype"].raw), ceilings)
    copied = ceilings["copy_gb_s"]
    fraction = rate / min(float(top.raw), intensity * float(copied.raw))
    sources = (layer["macs"], layer["microseconds"])
    return (
        layer,
        derived(rate, significant(rate), *sources),
        derived(intensity, significant(intensity), layer["macs"], layer["bytes"]),
        derived(fraction, f"{100 * fraction:.0f}\N{NO-BREAK SPACE}%", *sources, top, copied),
    )


def _ceiling(dtype: str, ceilings: Traced) -> Traced:
    return ceilings["int8_gops" if dtype in {"int8", "uint8"} else "fp32_gops"]


def _panel(
    engine: EngineView,
    dots: Sequence[tuple[Traced, Figure, Figure, Figure]],
    ceilings: Traced,
    x: Scale,
    y: Scale,
) -> RooflinePanel:
    # Most layers' type decides which roof is drawn; each fraction is of its own layer's.
    types = [str(layer["dtype"].raw) for layer, *_ in dots]
    top = float(_ceiling(max(sorted(set(types)), key=types.count), ceilings).raw)
    copied = float(ceilings["copy_gb_s"].raw)
    start = max(x.low, y.low / copied)
    corners = sorted({start, min(max(top / copied, start), x.high), x.high})
    return RooflinePanel(
        engine,
        tuple(
            Dot(layer, x.place(float(at.value)), y.place(float(rate.value)), rate, at, fraction)
            for layer, rate, at, fraction in dots
        ),
        tuple((x.place(at), y.place(min(top, at * copied))) for at in corners),
        x,
        y,
    )
