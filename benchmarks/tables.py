"""Results on the terminal; nothing is computed here that the result does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from benchmarks.suite import Role

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS = {"faster": "green", "slower": "red"}


def result(found: Mapping[str, Any], console: Console) -> None:
    """Everything a reader should see of a suite's result."""
    conditions, host = found["conditions"], found["host"]
    console.print(
        f"[bold]{escape(found['suite'])} suite[/], {found['date']}: {escape(host['cpu'])}, "
        f"{conditions['threads']} threads, {conditions['rounds']} rounds in "
        f"{conditions['lives']} lives, seed {conditions['seed']}"
    )
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
    energy = found["energy"]
    if isinstance(energy, Mapping):
        console.print(f"[dim]energy: missing: {escape(energy['missing'])}[/]")
    for mark in found["marks"]:
        console.print(f"[bold red]marked:[/] {escape(mark)}")


def _engines(found: Mapping[str, Any], model: str, batch: int) -> Table:
    table = Table(title=f"{model}, batch {batch}", title_justify="left")
    for heading in ("engine", "arithmetic"):
        table.add_column(heading)
    for heading in (
        "size", "p50 ms", "p90", "p99", "images/s", "load s", "first s", "peak MB",
        "of ceiling", "speedup over eager (95 %)", "over the best peer (95 %)",
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
        f"{timing['p50_ms']:.2f}",
        f"{timing['p90_ms']:.2f}",
        f"{timing['p99_ms']:.2f}",
        f"{timing['images_per_s']:.0f}",
        f"{timing['load_s']:.1f}",
        f"{timing['first_inference_s']:.1f}",
        f"{timing['peak_rss_bytes'] / 1e6:.0f}" if timing["peak_rss_bytes"] else "-",
        "-" if fraction is None else f"{fraction:.0%}",
        _ratio(timing, "speedup") + ("" if timing["stable"] else " [yellow]unstable[/]"),
        _best_peer(timing),
    ]


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
