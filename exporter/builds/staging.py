"""Where a packed artifact lands: written whole beside its destination, then moved there.

Every packed folder lists its files in SHA256SUMS, which also tells it from folders that are not
ours to replace.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.errors import InputError, UsageError
from exporter.runtime.bundle_files import SUMS


@contextmanager
def staged_folder(destination: Path) -> Iterator[Path]:
    """A new folder to write in; on success it takes the place of `destination`.

    On any error or interruption it is removed and the destination is untouched.

    Raises:
        UsageError: the destination is a file, or a folder that `exporter pack` did not write.
        InputError: it cannot be written.
    """
    if destination.is_file():
        raise UsageError(f"--out {destination} is a file; give a folder, or a name in .tar.zst")
    if destination.is_dir() and any(destination.iterdir()) and not (destination / SUMS).is_file():
        raise UsageError(
            f"--out {destination} is not empty and was not packed by us; give a new folder"
        )
    with _beside(destination) as scratch:
        new = scratch / destination.name
        new.mkdir()
        yield new
        try:
            if destination.exists():
                destination.replace(scratch / "old")
            new.replace(destination)
        except OSError as error:
            raise InputError(f"cannot write {destination}: {error.strerror}") from None


@contextmanager
def staged_file(destination: Path) -> Iterator[Path]:
    """A file name to write to; on success the file takes the place of `destination`.

    Raises:
        UsageError: the destination is a folder.
        InputError: it cannot be written.
    """
    if destination.is_dir():
        raise UsageError(f"--out {destination} is a folder; give the name of a file")
    with _beside(destination) as scratch:
        new = scratch / destination.name
        yield new
        try:
            new.replace(destination)
        except OSError as error:
            raise InputError(f"cannot write {destination}: {error.strerror}") from None


@contextmanager
def _beside(destination: Path) -> Iterator[Path]:
    """A scratch folder on the destination's file system, removed in the end."""
    destination = destination.absolute()
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(
            tempfile.mkdtemp(
                prefix=f".{destination.name}.", suffix=".partial", dir=destination.parent
            )
        )
    except OSError as error:
        raise InputError(
            f"cannot write to {destination}: {error.strerror}; choose another place with --out"
        ) from None
    try:
        yield scratch
    except OSError as error:
        # What fails while a scratch folder is written is the disk, not the request.
        raise InputError(f"cannot write {destination}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
