"""CONTRIBUTING.md describes the tree that is there."""

from __future__ import annotations

import re
from pathlib import Path

from exporter import pipeline

ROOT = Path(__file__).parents[1]


def test_it_lists_every_step_of_the_pipeline_in_order() -> None:
    assert pipeline.__doc__ is not None
    line = re.search(r"((?:\w+ ->\s+)+\w+)", pipeline.__doc__)
    assert line is not None
    steps = re.split(r" ->\s+", line[1])
    assert len(steps) > 10
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| `exporter/", table, re.MULTILINE)
    assert rows == steps


def test_every_path_that_it_names_exists() -> None:
    for page in ("CONTRIBUTING.md", "README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        named = set(re.findall(r"`((?:exporter|benchmarks|tests|docs|constraints)/[\w./]*)`", text))
        made = "benchmarks/results"  # by a run
        missing = [
            path
            for path in sorted(named)
            if not path.startswith(made) and not (ROOT / path).exists()
        ]
        assert not missing, f"{page} names {missing}"


def test_the_house_keeps_its_size() -> None:
    """At most ten modules in the lobby; a file that grows beyond 400 lines holds two things."""
    assert len(list((ROOT / "exporter").glob("*.py"))) <= 10
    sizes = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "exporter").rglob("*.py")
    }
    assert not [path for path, lines in sizes.items() if lines > 400]
    own = sorted(lines for path, lines in sizes.items() if not path.endswith("__init__.py"))
    assert own[len(own) // 2] < 150
