"""The files that packages hold as they are. ruff and mypy see the Python among them."""

from __future__ import annotations

import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

SHIPPED = Path(str(resources.files("exporter.pack"))) / "shipped"
TEMPLATES = SHIPPED.parent / "templates"


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
@pytest.mark.parametrize("path", sorted(SHIPPED.rglob("*.js")), ids=lambda path: path.name)
def test_javascript_can_be_parsed(path: Path, tmp_path: Path) -> None:
    module = tmp_path / f"{path.stem}.mjs"  # they ship beside a package.json that says so
    shutil.copyfile(path, module)
    done = subprocess.run(["node", "--check", module], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_templates_are_filled_in_and_programs_ship_as_they_are() -> None:
    assert {path.suffix for path in TEMPLATES.rglob("*") if path.is_file()} == {".j2"}
    for path in TEMPLATES.iterdir():
        assert path.name.endswith((".md.j2", ".yaml.j2")), "text alone is filled in"
        assert "{{" in path.read_text(encoding="utf-8"), f"{path.name} fills in nothing"
    assert not list(SHIPPED.rglob("*.j2"))
