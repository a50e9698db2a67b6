"""report.html and report.json: views of the manifest, nothing else.

`page.py` renders the page, `flat.py` the rows; `advice.py` words the recommendation, `charts.py`
places what is drawn, `traced.py` ties every figure to its place in the manifest.
"""

from __future__ import annotations

import json
from pathlib import Path

from exporter.builds.codec import plain
from exporter.builds.manifest import SCHEMA
from exporter.builds.records import Manifest
from exporter.disk.writing import write_whole
from exporter.errors import InputError
from exporter.report.flat import KIND, flat
from exporter.report.page import render

__all__ = ["flat", "render", "write_report"]


def write_report(folder: Path, manifest: Manifest) -> tuple[Path, Path]:
    """Writes report.html and report.json into a build folder, each whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    page, data = folder / "report.html", folder / "report.json"
    html = render(manifest)
    rows = {"schema": SCHEMA, "kind": KIND, **plain(flat(manifest))}
    _write(data, json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    _write(page, html)
    return page, data


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; free space") from None
