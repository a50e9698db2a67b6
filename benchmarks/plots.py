"""Results as pictures: SVG, the same bytes for the same result, readable by colour-blind people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.suite import BASELINE, Role
from exporter.compare import BENCHMARK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette; a trap is hatched too.
_COLOURS: Final[Mapping[str, str]] = {
    Role.OURS: "#0072B2", Role.PEER: "#999999", Role.BASELINE: "#555555", Role.TRAP: "#D55E00",
}  # fmt: skip
_LINES: Final = ("#555555", "#999999", "#56B4E9", "#0072B2", "#E69F00", "#D55E00")
_MARKERS: Final = "osD^vP"
_COLUMNS: Final = 2
"""Panels beside each other: as many as a page shows."""


def draw(found: Mapping[str, Any], stem: Path) -> list[Path]:
    """Writes the pictures that this kind of result has beside it; returns their paths."""
    figures: Iterable[tuple[str, Figure]]
    if found["kind"] == BENCHMARK:
        figures = [("speedup", _speedups(found))] if _cases(found) else []
    elif found["kind"] == "residual":
        figures = [("overhead", _overheads(found))]
    elif found["kind"] == "scaling":
        figures = [(axis, _scaling(axis, one)) for axis, one in found["axes"].items()]
    else:
        figures = [("roofline", _roofline(found))] if found["layers"] else []
    return [_save(figure, stem.with_name(f"{stem.name}-{name}.svg")) for name, figure in figures]


def _save(figure: Figure, path: Path) -> Path:
    import matplotlib

    partial = path.with_suffix(".partial")
    for axis in figure.axes:
        axis.tick_params(labelsize=8)
    with matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(partial, format="svg", metadata={"Date": None, "Creator": None})
    partial.replace(path)
    return path


def _cases(found: Mapping[str, Any]) -> list[tuple[str, int]]:
    pairs = ((row["model"], one["batch"]) for row in found["engines"] for one in row["latencies"])
    return list(dict.fromkeys(pairs))


def _speedups(found: Mapping[str, Any]) -> Figure:
    """One panel a model and batch: bars of the speedup over eager, with intervals."""
    from matplotlib.figure import Figure

    cases = _cases(found)
    names = [row["name"] for row in found["engines"] if row["model"] == cases[0][0]]
    names = [name for name in names if name != BASELINE]
    columns = min(_COLUMNS, len(cases))
    rows = -(-len(cases) // columns)
    figure = Figure(
        figsize=(4.6 * columns + 1.6, rows * (0.26 * len(names) + 1.1) + 0.4), layout="constrained"
    )
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for spare in axes[len(cases) :]:
        spare.remove()
    for axis, (model, batch) in zip(axes, cases, strict=False):
        for place, name in enumerate(reversed(names)):
            for row in found["engines"]:
                timings = [one for one in row["latencies"] if one["batch"] == batch]
                if (row["model"], row["name"]) != (model, name) or not timings:
                    continue
                one = timings[0]
                errors = [
                    [one["speedup"] - one["speedup_low"]], [one["speedup_high"] - one["speedup"]]
                ]  # fmt: skip
                axis.barh(
                    place, one["speedup"], xerr=errors, color=_COLOURS[row["role"]],
                    hatch="//" if row["role"] == Role.TRAP else None,
                    error_kw={"capsize": 2, "linewidth": 1},
                )  # fmt: skip
                axis.annotate(
                    f"{one['speedup']:.2f}x, {one['p50_ms']:.2f} ms", (one["speedup_high"], place),
                    xytext=(4, 0), textcoords="offset points", va="center", fontsize=7,
                )  # fmt: skip
        axis.axvline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set_yticks(range(len(names)), reversed(names), fontsize=8)
        axis.margins(x=0.3)
        axis.set_xlim(left=0)
        axis.set_title(f"{model}, batch {batch}", fontsize=9)
        axis.set_xlabel("speedup over eager PyTorch (95 %)", fontsize=8)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    host = found["host"]["cpu"]
    figure.suptitle(
        f"{host}, {found['conditions']['threads']} threads, {found['date']}", fontsize=9
    )
    return figure


def _overheads(found: Mapping[str, Any]) -> Figure:
    """Bars of the overhead of identity sums and projections, with intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.5 * len(found["engines"]) + 1.4), layout="constrained")
    axis = figure.subplots()
    names = [engine["name"] for engine in reversed(found["engines"])]
    for offset, key, label, colour in (
        (0.2, "identity_sums", "13 identity sums", "#0072B2"),
        (-0.2, "projections", "3 projections, convolutions and sums", "#E69F00"),
    ):
        for place, engine in enumerate(reversed(found["engines"])):
            one = engine[key]
            errors = [[one["percent"] - one["ci95"][0]], [one["ci95"][1] - one["percent"]]]
            axis.barh(
                place + offset, one["percent"], 0.36, xerr=errors, color=colour,
                label=label if place == 0 else None, error_kw={"capsize": 2, "linewidth": 1},
            )  # fmt: skip
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_xlabel("time added to plain34, percent (95 %)", fontsize=8)
    axis.legend(fontsize=7, frameon=False)
    return figure


def _roofline(found: Mapping[str, Any]) -> Figure:
    """Each convolution as a dot, as large as its share of the time, under the measured roofs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    copied = found["ceilings"]["copy"]["gbytes_per_s"]
    everything = [layer for engine in found["layers"] for layer in engine["layers"]]
    ends = [min(one["intensity"] for one in everything) / 2,
            max(one["intensity"] for one in everything) * 2]  # fmt: skip
    for index, engine in enumerate(found["layers"]):
        colour, marker = _LINES[3 + index], _MARKERS[index]
        most = found["ceilings"][engine["precision"]]["gops"]
        x = sorted([*ends, min(max(most / copied, ends[0]), ends[1])])
        axis.plot(x, [min(most, one * copied) for one in x], color=colour, linewidth=1)
        total = sum(one["time_us"] for one in engine["layers"])
        axis.scatter(
            [one["intensity"] for one in engine["layers"]],
            [one["gops"] for one in engine["layers"]],
            s=[max(6, 900 * one["time_us"] / total) for one in engine["layers"]],
            color=colour, marker=marker, alpha=0.6, linewidths=0,
            label=f"{engine['model']} {engine['name']} (roof {most:.0f} GOP/s)",
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("operations per byte of input, weights and output", fontsize=8)
    axis.set_ylabel("10^9 operations a second", fontsize=8)
    axis.legend(fontsize=7, frameon=False)
    return figure


_X_LABELS: Final[Mapping[str, str]] = {
    "batch": "images in a batch",
    "image-size": "pixels of the image",
    "depth": "multiply-accumulates of the network, 10^9",
    "threads": "1 / threads",
}


def _scaling(name: str, engines: Mapping[str, Any]) -> Figure:
    """Times over one axis, both logarithmic; a ring where the fitted line bends."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axis = figure.subplots()
    for index, (engine, one) in enumerate(engines.items()):
        colour, marker = _LINES[index % len(_LINES)], _MARKERS[index % len(_MARKERS)]
        points = sorted(one["points"], key=lambda point: float(point["x"]))
        x, times = [p["x"] for p in points], [p["p50_ms"] for p in points]
        axis.plot(x, times, color=colour, marker=marker, markersize=4, linewidth=1.2, label=engine)
        bend = one["line"] and one["line"]["bend"]
        if bend is not None:
            axis.plot(
                bend, times[x.index(bend)], "o", markersize=11, fillstyle="none", color=colour
            )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(_X_LABELS[name], fontsize=8)
    axis.set_ylabel("p50, ms", fontsize=8)
    axis.legend(fontsize=7, frameon=False)
    return figure
