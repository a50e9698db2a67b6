"""The tables of `docs/performance.md`: each layer against the ceilings, from a kept result.

The page is written by hand around them: they stand between two marks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.layers import KIND
from exporter.errors import InputError

BEGIN: Final = "<!-- layers: made by `python -m benchmarks page` -->\n"
END: Final = "<!-- end of layers -->\n"

Layers = Mapping[str, Mapping[str, Any]]


def with_tables(text: str, folder: Path) -> str:
    """The page with the tables of a folder's newest profile between its marks.

    Raises:
        InputError: a mark is missing, or no profile is kept.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    files = sorted(folder.glob(f"{KIND}-*.json"))
    if not (begin and end and files):
        raise InputError(
            f"the page needs the lines {BEGIN!r} and {END!r}, and a kept {KIND}-*.json"
        )
    path = files[-1]
    tables = "\n".join(_tables(path, json.loads(path.read_text(encoding="utf-8"))))
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def summary(found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row for each model and engine: its arithmetic, its time, and the ceiling's share."""
    ceiling = found["ceilings"]["int8_gops"]
    for profile in found["profiles"]:
        macs = sum(layer["macs"] for layer in profile["layers"])
        total, in_layers = profile["total_us"], _time(profile["layers"])
        least = _least_us(macs, ceiling)
        yield (
            profile["model"], profile["engine"], f"{macs / 1e9:.2f}", f"{least / 1e3:.1f}",
            f"{in_layers / 1e3:.1f}", f"{total / 1e3:.1f}", f"{least / total:.0%}",
        )  # fmt: skip


SUMMARY: Final = (
    "model", "engine", "GMAC", "least ms", "its layers, ms", "all kernels, ms", "of the ceiling",
)  # fmt: skip


def _tables(path: Path, found: Mapping[str, Any]) -> Iterator[str]:
    host, ceilings = found["host"], found["ceilings"]
    flags = [flag for flag in host["cpu_flags"] if flag.startswith(("avx512_", "amx"))]
    yield (
        f"{host['cpu']} ({', '.join(flags)}), {found['conditions']['threads']} threads, batch 1, "
        f"{found['date']}: {ceilings['int8_gops']:.0f} GOP/s in INT8, {ceilings['copy_gb_s']:.0f} "
        f"GB/s copied; `{path.as_posix()}`.\n"
    )
    yield from _table(SUMMARY, summary(found))
    models = dict.fromkeys(profile["model"] for profile in found["profiles"])
    for model in models:
        yield f"### {model}\n"
        engines = {
            profile["engine"]: {layer["name"]: layer for layer in profile["layers"]}
            for profile in found["profiles"]
            if profile["model"] == model
        }
        columns = [
            f"{engine} {what}" for engine in engines for what in ("us", "arithmetic", "bytes")
        ]
        yield from _table(("layer", "MOP", "kB", *columns), _rows(engines, ceilings))


def _rows(engines: Mapping[str, Layers], ceilings: Mapping[str, float]) -> Iterator[Sequence[str]]:
    for name, first in next(iter(engines.values())).items():
        cells = [name, f"{first['macs'] * 2 / 1e6:.0f}", f"{first['bytes'] / 1e3:.0f}"]
        for layers in engines.values():
            layer = layers.get(name)
            if layer is None:
                cells += ["", "", ""]
                continue
            time_us = layer["microseconds"]
            least = _least_us(layer["macs"], ceilings["int8_gops"])
            copied = layer["bytes"] / ceilings["copy_gb_s"] / 1e3
            cells += [f"{time_us:.0f}", f"{least / time_us:.0%}", f"{copied / time_us:.0%}"]
        yield cells


def _table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _least_us(macs: int, gops: float) -> float:
    return 2 * macs / gops / 1e3


def _time(layers: Sequence[Mapping[str, Any]]) -> float:
    return math.fsum(layer["microseconds"] for layer in layers)
