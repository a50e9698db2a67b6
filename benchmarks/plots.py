"""Results as pictures: SVG, the same bytes for the same result, readable by colour-blind people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.suite import Role
from benchmarks.tables import machine_of, point_label
from exporter.commands.compare import BENCHMARK
from exporter.disk.writing import whole_file
from exporter.targets import MachineKind

if TYPE_CHECKING:
    from matplotlib.axis import Axis
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
        batches = _batches(found)
        figures = [(f"speedup-{one}", _speedups(found, one, batches[one])) for one in batches]
    elif found["kind"] == "residual":
        figures = [("overhead", _overheads(found))]
    elif found["kind"] == "scaling":
        figures = [(axis, _scaling(axis, one)) for axis, one in found["axes"].items()]
    elif found["kind"] == "ceilings" and found["layers"]:
        figures = [("roofline", _roofline(found))]
    else:
        figures = []  # a few rows; the report draws throughput
    title = f"{machine_of(found)}, {found['conditions']['threads']} threads, {found['date']}"
    return [
        _save(figure, title, stem.with_name(f"{stem.name}-{name}.svg")) for name, figure in figures
    ]


def _save(figure: Figure, title: str, path: Path) -> Path:
    import matplotlib

    figure.suptitle(title, fontsize=9)
    for axis in figure.axes:
        axis.tick_params(labelsize=8)
    with (
        matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}),
        whole_file(path) as file,
    ):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return path


def _batches(found: Mapping[str, Any]) -> dict[str, list[int]]:
    """The models that were measured, each with its batch sizes."""
    batches: dict[str, list[int]] = {}
    for row in found["engines"]:
        for one in row["latencies"]:
            measured = batches.setdefault(row["model"], [])
            if one["batch"] not in measured:
                measured.append(one["batch"])
    return batches


def _speedups(found: Mapping[str, Any], model: str, batches: Sequence[int]) -> Figure:
    """One panel a batch size, two a row: bars of the speedup over eager, with intervals."""
    from matplotlib.figure import Figure

    engines = [
        row for row in found["engines"] if row["model"] == model and row["role"] != Role.BASELINE
    ]
    columns = min(_COLUMNS, len(batches))
    rows = -(-len(batches) // columns)
    figure = Figure(
        figsize=(4.6 * columns + 1.6, rows * (0.26 * len(engines) + 1.1) + 0.4),
        layout="constrained",
    )
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for spare in axes[len(batches) :]:
        spare.remove()
    for axis, batch in zip(axes, batches, strict=False):
        for place, row in enumerate(reversed(engines)):
            for one in row["latencies"]:
                if one["batch"] != batch:
                    continue
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
        names = [row["name"] for row in reversed(engines)]
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.margins(x=0.3)
        axis.set_xlim(left=0)
        axis.set_title(f"{model}, batch {batch}", fontsize=9)
        where = " on the GPU" if found.get("device") == MachineKind.GPU else ""
        axis.set_xlabel(f"speedup over eager PyTorch{where} (95 %)", fontsize=8)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
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
    _plain_ticks(axis.xaxis)
    _plain_ticks(axis.yaxis)
    axis.set_xlabel("operations per byte of input, weights and output", fontsize=8)
    axis.set_ylabel("10^9 operations a second", fontsize=8)
    axis.legend(fontsize=7, frameon=False)
    return figure


_X_LABELS: Final[Mapping[str, str]] = {
    "batch": "images in a batch",
    "image-size": "pixels of the image",
    "depth": "multiply-accumulates of the network",
    "threads": "1 / threads",
}


def _scaling(axis: str, engines: Mapping[str, Any]) -> Figure:
    """Latency and throughput over one axis, all logarithmic; a ring where the fitted line bends."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(11, 4), layout="constrained")
    latency, throughput = figure.subplots(1, 2)
    for index, (engine, one) in enumerate(engines.items()):
        style: dict[str, Any] = {
            "color": _LINES[index % len(_LINES)], "marker": _MARKERS[index % len(_MARKERS)],
            "markersize": 4, "linewidth": 1.2, "label": engine,
        }  # fmt: skip
        points = sorted(one["points"], key=lambda point: float(point["x"]))
        x, times = [p["x"] for p in points], [p["p50_ms"] for p in points]
        latency.plot(x, times, **style)
        throughput.plot(x, [p["images_per_s"] for p in points], **style)
        bend = one["line"] and one["line"]["bend"]
        if bend is not None:
            latency.plot(
                bend, times[x.index(bend)], "o", markersize=11, fillstyle="none",
                color=style["color"],
            )  # fmt: skip
    for panel, label in ((latency, "p50, ms"), (throughput, "images a second")):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticks(x, [point_label(axis, point) for point in points], rotation=30, ha="right")
        _plain_ticks(panel.yaxis)
        panel.set_xlabel(_X_LABELS[axis], fontsize=8)
        panel.set_ylabel(label, fontsize=8)
        panel.grid(axis="y", linewidth=0.3)
    figure.legend(*latency.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


def _plain_ticks(axis: Axis) -> None:
    """On a logarithmic axis: ticks at 1, 2 and 5 of each power of ten, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
