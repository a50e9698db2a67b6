"""The page of results is what the kept files say."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.page import page

ROOT = Path(__file__).parents[2]


def test_the_page_is_made_from_the_kept_results() -> None:
    written = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    made = page(ROOT / "benchmarks/results").replace(f"{ROOT.as_posix()}/", "")
    assert written == made, "run: python -m benchmarks page"


def test_every_row_of_ours_says_what_it_gains_and_over_whom() -> None:
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*(ours/\S+)\*\* \|(.*)\|$", text, re.MULTILINE)
    assert len(rows) > 10
    for name, cells in rows:
        columns = cells.split(" | ")
        assert re.match(r"[\d.]+ \([\d.]+ to [\d.]+\)", columns[2].strip()), name
