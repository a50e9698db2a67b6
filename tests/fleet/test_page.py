"""fleet.html: whole, escaped, every figure with its place in sweep.json."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.fleet.files import PAGE, RECORD, from_json, record_text, write
from exporter.fleet.page import render
from exporter.fleet.record import FailedJob, Limits, SweepRecord
from tests import manifests
from tests.fleet.sweeps import sweep
from tests.pages import Page

SWEEPS: dict[str, Callable[[], SweepRecord]] = {
    "priced": lambda: sweep(Limits(30.0, 0.01), {"zen": 0.34, "old": 0.1}),
    "bare": lambda: sweep(manifest=manifests.unmeasured()),
    "failed": lambda: sweep(manifest=manifests.failed(), failed=(FailedJob("m", "zen", "no"),)),
    "untrained": lambda: sweep(Limits(0.001), manifest=manifests.resnet50()),
    "not finite": lambda: sweep(manifest=manifests.not_finite()),
}


@pytest.fixture(params=SWEEPS)
def record(request: pytest.FixtureRequest) -> SweepRecord:
    return SWEEPS[request.param]()


def found_at(content: Any, path: str) -> Any:
    for name, index in re.findall(r"\.?([\w-]+)|\[(\d+)\]", path):
        content = content[name] if name else content[int(index)]
    return content


def test_every_figure_is_in_the_record_where_it_says(record: SweepRecord) -> None:
    page, content = Page(render(record)), json.loads(record_text(record))
    figures = [one for one in page.elements if one.tag == "data"]
    assert len(figures) >= 4
    for figure in figures:
        value = found_at(content, figure.attributes["data-source"])
        assert repr(float(figure.attributes["value"])) == repr(float(value))  # a NaN, too


def test_the_record_is_read_back_as_it_was_written(record: SweepRecord) -> None:
    again = from_json(json.loads(record_text(record)), "sweep.json")
    assert repr(again) == repr(record)  # a NaN is a NaN


def test_both_files_are_written(tmp_path: Path, record: SweepRecord) -> None:
    write(tmp_path / "new" / "folder", record)
    assert (tmp_path / "new" / "folder" / PAGE).read_text(encoding="utf-8") == render(record)
    assert sorted(one.name for one in (tmp_path / "new" / "folder").iterdir()) == [PAGE, RECORD]


def test_what_to_take_and_what_failed_come_first() -> None:
    text = render(SWEEPS["priced"]())
    assert text.index("Which to take") < text.index("Latency</h2>")
    assert "The cheapest with p99 \N{LESS-THAN OR EQUAL TO} 30 ms" in text
    assert "a million images" in text
    failed = render(SWEEPS["failed"]())
    assert "<strong>Failed:</strong> 7 builds or engines" in failed
    assert "<li>m on zen: no</li>" in failed
    one = render(sweep(failed=(FailedJob("m", "zen", "no"),)))
    assert "<strong>Failed:</strong> m on zen: no" in one
    assert "none</h3>" in failed
    untrained = render(SWEEPS["untrained"]())
    assert "<strong>Untrained weights</strong> (resnet50)" in untrained
    assert "nothing keeps p99 &lt;= 0.001 ms; the fastest is " in untrained


def test_text_stays_text() -> None:
    bad = "<script>alert(1)</script>"
    record = sweep(failed=(FailedJob(bad, bad, bad),))
    record = replace(record, name=bad, store=bad)
    text = render(record)
    assert bad not in text
    assert html.escape(bad) in text
    assert sum(one.tag == "script" for one in Page(text).elements) == 1
