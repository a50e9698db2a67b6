"""fleet.html and sweep.json: written whole, and read back for `exporter compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from exporter.builds.codec import plain, structure
from exporter.disk.writing import write_whole
from exporter.errors import InputError
from exporter.fleet.page import render
from exporter.fleet.record import KIND, SCHEMA, SweepRecord

RECORD: Final = "sweep.json"
PAGE: Final = "fleet.html"


def record_text(record: SweepRecord) -> str:
    """The record as it stands in the file."""
    content = {"schema": SCHEMA, "kind": KIND, **plain(record)}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def write(out: Path, record: SweepRecord) -> None:
    """Writes both files into a folder.

    Raises:
        InputError: they cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / RECORD, record_text(record) + "\n")
        write_whole(out / PAGE, render(record))
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror}; choose another --out") from None


def from_json(content: dict[str, Any], name: str) -> SweepRecord:
    """The record in a parsed JSON file of that name.

    Raises:
        InputError: another schema, or fields that do not fit.
    """
    if content.get("schema") != SCHEMA:
        raise InputError(f"{name} has schema {content.get('schema')!r}, expected {SCHEMA}")
    fields = {key: value for key, value in content.items() if key not in ("schema", "kind")}
    return structure(fields, SweepRecord, name, remedy="run the sweep again")
