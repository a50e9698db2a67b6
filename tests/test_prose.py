"""What the docstrings, the comments and the pages say of the tree is so."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SKIPPED = {"build", "node_modules", "results"}
ELSEWHERE = {"model.py", "probe.py", "register.py", "numpy.py"}
"""Files of packages and of users."""


def texts() -> Iterator[Path]:
    """Every page and program of the tree, environments and caches left out."""
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if not name.startswith(".") and name not in SKIPPED]
        for name in names:
            if name.endswith((".py", ".md", ".j2", ".toml")):
                yield Path(folder, name)


def test_every_file_that_is_named_exists() -> None:
    found = {path: path.read_text(encoding="utf-8") for path in texts()}
    parts = [path.relative_to(ROOT).parts for path in found if path.suffix == ".py"]
    # Each by its path, and by each shorter way to name it.
    files = {"/".join(names[n:]) for names in parts for n in range(len(names))}
    missing = {
        path.relative_to(ROOT).as_posix(): absent
        for path, text in found.items()
        if (absent := set(re.findall(r"`([\w./-]+\.py)`", text)) - files - ELSEWHERE)
    }
    assert not missing
