"""The project's pages, and the code that stands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of one language in a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def commands() -> list[list[str]]:
    """Every `exporter ...` that a page says to type, as its arguments."""
    lines = {
        line
        for page in PAGES
        for block in blocks(page, "console")
        for line in block.splitlines()
        if "exporter " in line
    }
    found = []
    for line in sorted(lines):
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[0].endswith("exporter"):
            found.append(words[1 : words.index(">") if ">" in words else None])
    return found
