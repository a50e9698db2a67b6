"""Files that appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside `path`, with its suffix, to write to; on success the file becomes `path`.

    It is on the disk before it gets that name: a machine that crashes leaves the old file or the
    new one. On any error or interruption the file is removed, and what was at `path` stays.

    Raises:
        OSError: the file cannot be written.
    """
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes a file, text as UTF-8 with the line ends that it has.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def flush(path: Path) -> None:
    """Waits until a file's contents are on the disk."""
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
