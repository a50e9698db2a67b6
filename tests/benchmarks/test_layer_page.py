"""The tables of layers are what the kept profile says, and the fastest round counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import layers
from benchmarks.layer_page import BEGIN, END, summary, with_tables
from exporter.errors import InputError

ROOT = Path(__file__).parents[2]
HEADER: dict[str, Any] = {
    "event": "header", "date": "2026-11-26", "command": "python -m benchmarks layers build/a",
    "host": {"cpu": "A CPU", "cpu_flags": ["avx2", "avx512_vnni"]}, "versions": {}, "machine": {},
    "threads": 2, "cpus": [0, 1], "rounds": 2, "lives": 1, "seed": 0,
}  # fmt: skip


def profile(engine: str, microseconds: float) -> dict[str, Any]:
    layer: dict[str, Any] = {"name": "conv1", "block": "", "op": "Conv", "dtype": "int8"}
    layer |= {"microseconds": microseconds, "macs": 50_000_000, "bytes": 1_000_000}
    total = 2 * microseconds
    return {
        "event": "profile",
        "model": "a",
        "engine": engine,
        "total_us": total,
        "layers": [layer],
    }


def ceilings(int8_gops: float) -> dict[str, Any]:
    return {"event": "ceilings", "int8_gops": int8_gops, "copy_gb_s": 20.0}


EVENTS = [
    HEADER, ceilings(1000.0), profile("ort-cpu.int8", 200.0), profile("openvino.int8", 500.0),
    ceilings(900.0), profile("ort-cpu.int8", 400.0), profile("openvino.int8", 125.0),
]  # fmt: skip


def test_the_page_is_made_from_the_kept_profile() -> None:
    written = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    made = with_tables(written, ROOT / "benchmarks/results").replace(f"{ROOT.as_posix()}/", "")
    assert written == made, "run: python -m benchmarks page"


def test_the_fastest_round_of_each_is_held_against_the_fastest_kernel(tmp_path: Path) -> None:
    found = layers.analyse(EVENTS)
    (tmp_path / "layers-2026-11-26.json").write_text(json.dumps(found), encoding="utf-8")
    page = with_tables(f"before\n{BEGIN}old\n{END}after\n", tmp_path)
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    # 100 MOP at 1000 GOP/s and 1 MB at 20 GB/s are 100 and 50 microseconds.
    assert "| conv1 | 100 | 1000 | 200 | 50% | 25% | 125 | 80% | 40% |" in page
    assert [row[-1] for row in summary(found)] == ["25%", "40%"]
    assert with_tables(page, tmp_path) == page


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "layers-2026-11-26.json").write_text(json.dumps(layers.analyse(EVENTS)))
    with pytest.raises(InputError, match="end of layers"):
        with_tables(BEGIN, tmp_path)
