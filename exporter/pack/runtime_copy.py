"""A copy of `exporter.runtime`, so that a server needs no package of ours."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def write_runtime(folder: Path) -> None:
    """Writes `exporter/runtime/` into a folder that the server's Python will import from."""
    package = folder / "exporter" / "runtime"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text('"""Holds a copy of `exporter.runtime`."""\n')
    for module in resources.files("exporter.runtime").iterdir():
        if module.name.endswith(".py"):
            (package / module.name).write_bytes(module.read_bytes())
