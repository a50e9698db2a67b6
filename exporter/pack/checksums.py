"""SHA256SUMS: every file of a packed folder by its hash, in the form of sha256sum(1)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from exporter.runtime.bundle_files import SIGNATURE, SUMS


def write_sums(folder: Path) -> None:
    """Writes SHA256SUMS over all files of a folder, sorted, in the form of sha256sum(1)."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in (SUMS, SIGNATURE):
            with path.open("rb") as stream:
                lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {name}\n")
    (folder / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")
