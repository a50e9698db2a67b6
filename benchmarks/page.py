"""`docs/results.md`: every kept result of the suite as tables, by machine, model and batch size.

A table has the engines of one interleaved run. Nothing is computed here that the result does not
hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from benchmarks.layer_page import with_tables
from benchmarks.options import RESULTS
from benchmarks.results import wide_console
from benchmarks.suite import Role
from exporter.commands.compare import BENCHMARK
from exporter.disk.writing import write_whole

_HEAD: Final = """\
# Results

Each table is one interleaved run of `python -m benchmarks run` on the machine that is named above
it: this project's engines in bold, its peers, and eager PyTorch, with 95 % intervals. "Over its
FP32" compares with the FP32 engine of the same runtime, which is what the precision alone gains;
the speedup over eager has the runtime's fusion in it, too. "Of the ceiling" is the arithmetic done
against the fastest product of matrices of that type that any library does on the same machine.

This page is made by `python -m benchmarks page` from the files in `benchmarks/results/`;
`python -m benchmarks show FILE` prints one with sizes, load times and memory.
"""
_COLUMNS: Final = (
    "engine", "arithmetic", "p50 ms", "over eager", "over its FP32", "over the best peer",
    "of the ceiling",
)  # fmt: skip
_FLAGS: Final = ("avx2", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")
"""What decides how fast INT8 and BF16 are."""


def command(
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/results.md"),
    performance: Annotated[
        Path, typer.Option(help="The page whose tables of layers to write.")
    ] = Path("docs/performance.md"),
) -> None:
    """Write the page of all kept results and the tables of layers; nothing is measured."""
    write_whole(out, page(RESULTS))
    text = performance.read_text(encoding="utf-8")
    write_whole(performance, with_tables(text, RESULTS))
    for path in (out, performance):
        wide_console().print(escape(str(path)), soft_wrap=True)


def page(folder: Path) -> str:
    """The page of a folder's results, the newest first."""
    files = sorted(folder.glob("*.json"), key=lambda path: path.stem, reverse=True)
    found = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in files]
    suites = [(path, one) for path, one in found if one["kind"] == BENCHMARK]
    suites.sort(key=lambda pair: str(pair[1]["date"]), reverse=True)
    return "\n".join([_HEAD, *(line for path, one in suites for line in _suite(path, one))])


def _suite(path: Path, found: Mapping[str, Any]) -> Iterator[str]:
    host, conditions = found["host"], found["conditions"]
    flags = [flag for flag in _FLAGS if flag in host["cpu_flags"]]
    models = ", ".join(dict.fromkeys(row["model"] for row in found["engines"]))
    yield f"## {host['gpu'] or host['cpu']}, {found['date']}: {models}\n"
    yield (
        f"{host['cpu']} ({', '.join(flags)}), {conditions['threads']} threads, "
        f"{conditions['rounds']} rounds; PyTorch {found['versions']['torch']}, ONNX Runtime "
        f"{found['versions']['onnxruntime']}, OpenVINO {found['versions']['openvino']}; "
        f"`{path.as_posix()}`.\n"
    )
    for mark in found["marks"]:
        yield f"*Marked: {mark}*\n"
    cases = dict.fromkeys(
        (row["model"], timing["batch"]) for row in found["engines"] for timing in row["latencies"]
    )
    for model, batch in cases:
        yield f"### {model}, batch {batch}\n"
        yield f"| {' | '.join(_COLUMNS)} |"
        yield f"|{' --- |' * len(_COLUMNS)}"
        yield from _rows(found["engines"], model, batch)
        yield ""
    missing = [row for row in found["engines"] if row["latency_skipped"]]
    for why in dict.fromkeys(row["latency_skipped"] for row in missing):
        names = dict.fromkeys(row["name"] for row in missing if row["latency_skipped"] == why)
        yield f"Not measured: {', '.join(names)}: {why}.\n"


def _rows(engines: Iterable[Mapping[str, Any]], model: str, batch: int) -> Iterator[str]:
    for row in engines:
        for timing in row["latencies"]:
            if (row["model"], timing["batch"]) == (model, batch):
                yield f"| {' | '.join(_cells(row, timing))} |"


def _cells(row: Mapping[str, Any], timing: Mapping[str, Any]) -> list[str]:
    name, fraction = row["name"], timing["fraction_of_ceiling"]
    peer = timing["best_peer"]
    return [
        f"**{name}**" if row["role"] == Role.OURS else name,
        row["precision"],
        f"{timing['p50_ms']:.2f}",
        _ratio(timing, "speedup") + ("" if timing["stable"] else ", unstable"),
        _ratio(timing, "over_own_fp32"),
        "" if peer is None else f"{_ratio(timing, 'over_best_peer')} {peer}",
        "" if fraction is None else f"{fraction:.0%}",
    ]


def _ratio(timing: Mapping[str, Any], key: str) -> str:
    """Empty where the result has none: it was made before that was compared, or it has no pair."""
    if key not in timing:
        return ""
    return f"{timing[key]:.2f} ({timing[f'{key}_low']:.2f} to {timing[f'{key}_high']:.2f})"
