"""What the docstrings, the comments and the pages say of the tree is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SKIPPED = {"build", "node_modules", "results"}
ELSEWHERE = {"model.py", "probe.py", "numpy.py"}
"""Files of packages and of users."""


def texts() -> list[Path]:
    return sorted(
        path
        for suffix in ("py", "md", "j2", "toml")
        for path in ROOT.rglob(f"*.{suffix}")
        if not any(part.startswith(".") or part in SKIPPED for part in path.relative_to(ROOT).parts)
    )


def files() -> set[str]:
    """Every file of the tree by its path, and by each shorter way to name it."""
    parts = (path.relative_to(ROOT).parts for path in texts() if path.suffix == ".py")
    return {"/".join(names[n:]) for names in parts for n in range(len(names))}


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"`([\w./-]+\.py)`", path.read_text(encoding="utf-8")))
    assert not named - files() - ELSEWHERE
