"""Labels of pictures in a file: CSV with a line a picture, or JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from exporter.errors import InputError

_HEADINGS = (("file", "label"), ("image", "label"), ("filename", "label"), ("path", "label"))


def read_labels(path: Path) -> dict[str, str]:
    """The label of each picture, by its path below the data's folder.

    A CSV has two columns, file and label, with or without that heading; a JSON file is an object of
    them, or a list of objects {"file": ..., "label": ...}.

    Raises:
        InputError: it cannot be read, has another form, or names a picture twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read --labels {path}: {reason}") from None
    pairs = _json(path, text) if path.suffix.lower() == ".json" else _csv(path, text)
    found: dict[str, str] = {}
    for file, label in pairs:
        name = Path(file).as_posix()
        if name in found and found[name] != label:
            raise InputError(f"--labels {path}: {file} is labelled {found[name]!r} and {label!r}")
        found[name] = label
    if not found:
        raise InputError(f"--labels {path}: it holds no label; give a line FILE,LABEL a picture")
    return found


def _csv(path: Path, text: str) -> list[tuple[str, str]]:
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    except csv.Error as error:
        raise InputError(f"--labels {path} is no CSV ({error})") from None
    if rows and tuple(cell.lower() for cell in rows[0]) in _HEADINGS:
        del rows[0]
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not all(row):
            raise InputError(
                f"--labels {path}: row {number} has {len(row)} columns; give FILE,LABEL in each"
            )
    return [(file, label) for file, label in rows]


def _json(path: Path, text: str) -> list[tuple[str, str]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--labels {path} is no JSON ({error})") from None
    if isinstance(content, dict):
        content = [{"file": file, "label": label} for file, label in content.items()]
    found = []
    for one in content if isinstance(content, list) else [None]:
        match one:
            case {"file": str(file), "label": str() | int() as label}:
                found.append((file, str(label)))
            case _:
                raise InputError(
                    f"--labels {path}: expected an object of FILE: LABEL, or a list of "
                    '{"file": FILE, "label": LABEL}'
                )
    return found
