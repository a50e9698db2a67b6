"""manifest.json: what goes in comes out, and a broken one is one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.artifact import Skipped, Verdict
from exporter.builds import manifest
from exporter.errors import InputError
from exporter.measure.timing import Latency, Speedup


def test_dataclasses_enums_and_infinities_become_plain_json() -> None:
    latency = Latency(
        batch=1, threads=2, warmup=3, rounds=4, p50_ms=1.5, p90_ms=2.0, p99_ms=float("inf"),
        eager_p50_ms=3.0, baseline="torch-eager", speedup=Speedup(2.0, (1.9, 2.1)), stable=True,
    )  # fmt: skip
    plain = manifest.plain({"latency": latency, "none": Skipped("why"), "verdict": Verdict.FUSED})
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["latency"]["speedup"] == {"median": 2.0, "ci95": [1.9, 2.1]}
    assert plain["latency"]["p99_ms"] == "inf"
    assert plain["none"] == {"skipped": "why"}
    assert type(plain["verdict"]) is str


def test_a_written_manifest_reads_back(tmp_path: Path) -> None:
    content = {"schema": 1, "model": {"name": "é"}, "engines": []}
    manifest.write(tmp_path, content)
    assert manifest.read(tmp_path) == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no manifest.json"),
        ("{", "not valid JSON"),
        ('{"schema": 2}', "schema 2, expected 1"),
        ("[]", "schema None, expected 1"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=message):
        manifest.read(tmp_path)
