"""report.html and report.json: views of the manifest, nothing else.

The page is one file with its style and drawings inside: it opens from disk, asks no network,
prints, and follows the reader's light or dark setting. The same manifest gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from exporter.errors import InputError
from exporter.ranking import fastest

TEMPLATE: Final = "report.html.j2"
BAR_WIDTH: Final = 420.0
"""Of the longest speedup bar, in the drawing's units."""


def write_report(folder: Path, manifest: Mapping[str, Any]) -> tuple[Path, Path]:
    """Writes both files into a build folder, each whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    page = folder / "report.html"
    data = folder / "report.json"
    _write(data, json.dumps(rows(manifest), indent=1, ensure_ascii=False) + "\n")
    _write(page, render(manifest))
    return page, data


def rows(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The flat view: one row an engine, the figures that tables and scripts want."""
    return {
        "schema": manifest["schema"],
        "model": manifest["model"]["name"],
        "trained": manifest["model"]["weights"]["trained"],
        "recommended": fastest(manifest),
        "failures": manifest["failures"],
        "engines": [_row(engine) for engine in manifest["engines"]],
    }


def _row(engine: Mapping[str, Any]) -> dict[str, Any]:
    receipt, parity, latency = engine["receipt"], engine["parity"], engine["latency"]
    accuracy = engine["accuracy"] or {}
    return {
        "id": engine["id"],
        "path": engine["path"],
        "bytes": engine["bytes"],
        "verdict": receipt["verdict"],
        "expected": receipt["expected"],
        "residual_adds": receipt["residual_adds"],
        "residual_adds_fused": receipt["residual_adds_fused"],
        "float_ops": receipt["float_ops"],
        "parity_passed": parity.get("passed"),
        "parity_scope": parity.get("scope"),
        "rel_l2": parity.get("rel_l2"),
        "sqnr_db": parity.get("sqnr_db"),
        "top1": accuracy.get("top1"),
        "p50_ms": latency.get("p50_ms"),
        "speedup": latency.get("speedup"),
        "not_measured": latency.get("skipped"),
    }


def render(manifest: Mapping[str, Any]) -> str:
    """The page. Every value is escaped: a model's name may be anything."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["significant"] = significant
    text = (resources.files("exporter") / "templates" / TEMPLATE).read_text(encoding="utf-8")
    best = fastest(manifest)
    return environment.from_string(text).render(
        m=manifest,
        best=next((e for e in manifest["engines"] if e["id"] == best), None),
        bars=speedup_bars(manifest["engines"]),
        drifts=drift_lines(manifest["engines"]),
    )


def speedup_bars(engines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Positions of the speedup bars and of their intervals; `one` is where eager stands."""
    measured = [(i, e) for i, e in enumerate(engines) if "speedup" in e["latency"]]
    longest = max((e["latency"]["speedup"]["ci95"][1] for _, e in measured), default=1.0)
    scale = BAR_WIDTH / max(longest, 1.0)
    return {
        "one": scale,
        "bars": [
            {
                "index": index,
                "engine": engine,
                "width": scale * engine["latency"]["speedup"]["median"],
                "low": scale * engine["latency"]["speedup"]["ci95"][0],
                "high": scale * engine["latency"]["speedup"]["ci95"][1],
            }
            for index, engine in measured
        ],
    }


def drift_lines(engines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each engine with drift figures: the height of each block's two errors, 0 to 1 (log)."""
    lines = []
    for index, engine in enumerate(engines):
        blocks = engine["parity"].get("blocks") or []
        if blocks:
            lines.append({"index": index, "engine": engine, "blocks": blocks})
    return lines


def significant(value: float | str | None, digits: int = 3) -> str:
    """A figure with so many significant digits, or an em dash where there is none."""
    if value is None:
        return "\N{EM DASH}"
    return value if isinstance(value, str) else f"{value:.{digits}g}"


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}; free space") from None
