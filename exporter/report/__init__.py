"""report.html and report.json: views of the manifest, nothing else.

`page.py` renders the page, `flat.py` the rows; `advice.py` words the recommendation, `charts.py`
places what is drawn, `traced.py` ties every figure to its place in the manifest.
"""

from __future__ import annotations

import json
from pathlib import Path

from exporter.builds.manifest import to_json
from exporter.builds.records import Manifest
from exporter.disk.writing import write_whole
from exporter.errors import InputError
from exporter.report.flat import flat
from exporter.report.page import render

__all__ = ["flat", "render", "write_report"]


def write_report(folder: Path, manifest: Manifest) -> tuple[Path, Path]:
    """Writes report.html and report.json into a build folder, each whole or not at all.

    Raises:
        InputError: the folder cannot be written, or the manifest lacks a field of its schema.
    """
    page, data = folder / "report.html", folder / "report.json"
    content = to_json(manifest)
    html = render(content)
    _write(data, json.dumps(flat(content), indent=1, ensure_ascii=False) + "\n")
    _write(page, html)
    return page, data


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; free space") from None
