"""Results on the terminal; nothing is computed here that the result does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from benchmarks.layer_page import SUMMARY, summary
from benchmarks.machine import BUSY
from benchmarks.suite import Role
from exporter.targets import MachineKind

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS = {"faster": "green", "slower": "red"}


def suite(found: Mapping[str, Any], console: Console) -> None:
    """Everything a reader should see of a suite's result."""
    console.print(headline(found, f"{found['suite']} suite"))
    cases = dict.fromkeys(
        (row["model"], timing["batch"]) for row in found["engines"] for timing in row["latencies"]
    )
    for model, batch in cases:
        console.print(_engines(found, model, batch))
    for row in found["engines"]:
        if row["latency_skipped"]:
            console.print(
                f"[yellow]missing:[/] {escape(row['id'])}: {escape(row['latency_skipped'])}"
            )
    if found["ceilings"]:
        console.print(_ceilings(found["ceilings"]))
    for pair in found["same_engine"]:
        console.print(
            f"[dim]the same engine twice, {escape(pair['group'])}: {escape(pair['name'])} "
            f"{pair['ratio']:.3f} ({pair['ratio_low']:.3f} to {pair['ratio_high']:.3f})[/]"
        )
    if found["seconds"]:
        spent = found["seconds"]
        console.print(
            f"[dim]{spent['build']:.0f} s to build, {spent['measure']:.0f} s to measure[/]"
        )
    energy = found["energy"]
    if isinstance(energy, Mapping):
        console.print(f"[dim]energy: missing: {escape(energy['missing'])}[/]")
    for mark in found["marks"]:
        console.print(f"[bold red]marked:[/] {escape(mark)}")


def _engines(found: Mapping[str, Any], model: str, batch: int) -> Table:
    table = Table(title=escape(f"{model}, batch {batch}"), title_justify="left")
    for heading in ("engine", "arithmetic"):
        table.add_column(heading)
    for heading in (
        "size", "p50 ms", "p90", "p99", "images/s", "load s", "first s", "peak MB",
        "of ceiling", "speedup over eager (95 %)", "over its runtime's FP32",
        "over the best peer (95 %)",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in found["engines"]:
        timing = next((one for one in row["latencies"] if one["batch"] == batch), None)
        if row["model"] == model and timing is not None:
            table.add_row(*_engine(row, timing))
    return table


def _engine(row: Mapping[str, Any], timing: Mapping[str, Any]) -> list[str]:
    name = escape(row["name"])
    fraction = timing["fraction_of_ceiling"]
    return [
        f"[bold]{name}[/]" if row["role"] == Role.OURS else name,
        row["precision"],
        f"{row['bytes'] / 1e6:.1f} MB",
        f"{timing['p50_ms']:.2f}" + _alone(timing),
        f"{timing['p90_ms']:.2f}",
        f"{timing['p99_ms']:.2f}",
        f"{timing['images_per_s']:.0f}",
        f"{timing['load_s']:.1f}",
        f"{timing['first_inference_s']:.1f}",
        f"{timing['peak_rss_bytes'] / 1e6:.0f}" if timing["peak_rss_bytes"] else "-",
        "-" if fraction is None else f"{fraction:.0%}",
        _ratio(timing, "speedup") + ("" if timing["stable"] else " [yellow]unstable[/]"),
        _ratio(timing, "over_own_fp32") if "over_own_fp32" in timing else "-",
        _best_peer(timing),
    ]


def _alone(timing: Mapping[str, Any]) -> str:
    """What of the p50 the GPU alone took."""
    alone = timing.get("compute_p50_ms")
    return "" if alone is None else f" [dim]({alone:.3f} on the GPU)[/]"


def _ratio(timing: Mapping[str, Any], key: str) -> str:
    return f"{timing[key]:.2f}x [dim]({timing[f'{key}_low']:.2f} to {timing[f'{key}_high']:.2f})[/]"


def _best_peer(timing: Mapping[str, Any]) -> str:
    if timing["best_peer"] is None:
        return "-"
    colour = _COLOURS.get(timing["verdict"], "default")
    return (
        f"[{colour}]{timing['verdict']}[/] {_ratio(timing, 'over_best_peer')} "
        f"{escape(timing['best_peer'])}"
    )


def _ceilings(ceilings: Mapping[str, Any]) -> Table:
    table = Table("arithmetic", "ceiling", "kernel", "the others", title="ceilings of this machine",
                  title_justify="left")  # fmt: skip
    for precision, ceiling in ceilings.items():
        unit = "GB/s" if precision == "copy" else "GOP/s"
        most = ceiling["gbytes_per_s" if precision == "copy" else "gops"]
        others = [
            f"{name} {value:.0f}"
            for name, value in ceiling["kernels"].items()
            if name != ceiling["kernel"]
        ]
        table.add_row(
            precision, f"{most:.0f} {unit}", escape(ceiling["kernel"]), escape(", ".join(others))
        )
    return table


def ceilings_alone(found: Mapping[str, Any], console: Console) -> None:
    """The ceilings, where nothing else was measured."""
    console.print(headline(found))
    console.print(_ceilings(found["ceilings"]))
    missing_and_busy(found, console)


def layers(found: Mapping[str, Any], console: Console) -> None:
    """A row for each engine; its layers are in the page (`layer_page`)."""
    console.print(headline(found))
    table = Table(*SUMMARY)
    for row in summary(found):
        table.add_row(*map(escape, row))
    console.print(table)


def residual(found: Mapping[str, Any], console: Console) -> None:
    """What the residual sums cost, engine by engine."""
    console.print(headline(found))
    table = Table(
        title="overhead of the shortcuts of resnet34 over plain34, in percent of the time (95 %)",
        title_justify="left",
    )
    table.add_column("engine")
    for heading in (
        "plain34 ms", "with projections", "resnet34 ms", "13 identity sums", "3 projections",
        "residual path",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for engine in found["engines"]:
        overheads = [engine[key] for key in ("identity_sums", "projections", "residual_path")]
        table.add_row(
            escape(engine["name"]),
            *(f"{value:.2f}" for value in engine["p50_ms"].values()),
            *(
                f"{one['percent']:+.1f} [dim]({one['ci95'][0]:+.1f} to {one['ci95'][1]:+.1f})[/]"
                for one in overheads
            ),
        )
    console.print(table)
    console.print(
        f"[dim]the projections are {found['projections_macs_percent']:.1f} % more arithmetic[/]"
    )
    missing_and_busy(found, console)


def mixed_search(found: Mapping[str, Any], console: Console) -> None:
    """What each search chose, what it met, and how the fastest random sets compare."""
    console.print(headline(found))
    table = Table("target", "budget", "kept in FP32", "held out", title_justify="left")
    for heading in (
        "ms (INT8)",
        "search s",
        "sets",
        "front",
        "random within",
        "best random / ours",
    ):
        table.add_column(heading, justify="right")
    for row in found["searches"]:
        point, held_out = row["chosen"] or row["best"], row["held_out"]
        int8 = next(one["ms"] for one in row["points"] if not one["kept"])
        met = f"{held_out['sqnr_db']:.1f} dB{'' if row['chosen'] else ' (not met)'}"
        if isinstance(held_out["drop"], float):
            met += f", drop {held_out['drop']:.2%}"
        duels = [one["over_chosen"] for one in row["duels"]]
        table.add_row(
            escape(row["target"]),
            row["budget"],
            escape(", ".join(point["kept"])) or "nothing",
            met,
            f"{point['ms']:.2f} ({int8:.2f})",
            f"{row['seconds']:.0f}",
            str(len(row["points"])),
            str(len(row["front"])),
            f"{row['drawn_within']} of {row['drawn']}",
            f"{min(duels):.3f}" if duels else "",
        )
    console.print(table)


def scaling(found: Mapping[str, Any], console: Console) -> None:
    """Two tables an axis: times with the fitted line and its bend, and throughputs."""
    console.print(headline(found))
    for axis, engines in found["axes"].items():
        times = _axis_table(f"{axis}: p50 in ms", axis, engines)
        times.add_column("line")
        rates = _axis_table(f"{axis}: images a second", axis, engines)
        for engine, one in engines.items():
            points = one["points"]
            p50s = [f"{point['p50_ms']:.2f}" for point in points]
            times.add_row(escape(engine), *p50s, _line(one["line"]))
            rates.add_row(escape(engine), *(f"{point['images_per_s']:.0f}" for point in points))
        console.print(times)
        console.print(rates)
    missing_and_busy(found, console)


def headline(found: Mapping[str, Any], title: str = "") -> str:
    """What was measured where, and how."""
    conditions, machine = found["conditions"], escape(machine_of(found))
    return (
        f"[bold]{escape(title or found['kind'])}[/], {found['date']}: {machine}, "
        f"{conditions['threads']} threads, {conditions['rounds']} rounds in "
        f"{conditions['lives']} lives, seed {conditions['seed']}"
    )


def machine_of(found: Mapping[str, Any]) -> str:
    """What a result was measured on: the GPU's name, or the CPU's."""
    host = found["host"]
    return str(host["gpu"] if found.get("device") == MachineKind.GPU else host["cpu"])


def missing_and_busy(found: Mapping[str, Any], console: Console) -> None:
    """What could not be measured, and whether others used the machine."""
    for missing in found["missing"]:
        console.print(f"[yellow]missing:[/] {escape(missing)}")
    if found["others"] > BUSY:
        console.print(f"[bold red]marked:[/] others took {found['others']:.1%} of the CPUs")


def _axis_table(title: str, axis: str, engines: Mapping[str, Any]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("engine")
    for point in next(iter(engines.values()))["points"]:
        table.add_column(escape(point_label(axis, point)), justify="right")
    return table


def point_label(axis: str, point: Mapping[str, Any]) -> str:
    """What a reader calls a point of a scaling axis: "b8", "224 px", "resnet50", "1 thread"."""
    return {
        "batch": f"b{point['batch']}",
        "image-size": f"{point['image_size']} px",
        "depth": str(point["model"]),
        "threads": f"{point['threads']} thread{'s' if point['threads'] > 1 else ''}",
    }[axis]


def _line(line: Mapping[str, Any] | None) -> str:
    if line is None:
        return "-"
    text = f"{line['fixed_ms']:.3g} + {line['slope_ms']:.3g} x"
    if line["bend"] is not None:
        return f"{text}, from x = {line['bend']:.4g} on {line['slope_after_ms']:.3g} x"
    return f"{text} (within {line['worst']:.0%})"
