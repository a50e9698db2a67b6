"""Where a package lands. SHA256SUMS tells a folder of ours from one that is not ours to replace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.builds.staging import check_writable, staged_file, staged_folder
from exporter.errors import InputError, UsageError
from exporter.runtime.bundle_files import SUMS


def check_out(out: Path) -> None:
    """Refuses a place that is not ours to replace, or that cannot be written.

    Raises:
        UsageError: a folder that `exporter pack` did not write.
        InputError: it cannot be written.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / SUMS).is_file():
        raise UsageError(f"--out {out} is not empty and was not packed by us; give a new folder")
    check_writable(out.parent if out.is_file() else out)


@contextmanager
def packed_folder(out: Path) -> Iterator[Path]:
    """A new folder to write in; on success its contents replace those of `out`.

    Raises:
        UsageError: `out` is a file, or a folder that `exporter pack` did not write.
        InputError: it cannot be written.
    """
    if out.is_file():
        raise UsageError(f"--out {out} is a file; give a folder, or a name in .tar.zst")
    check_out(out)
    with _naming(out), staged_folder(out) as folder:
        yield folder


@contextmanager
def packed_file(out: Path) -> Iterator[Path]:
    """The name of a file to write, alone in a folder; on success it takes the place of `out`.

    Raises:
        UsageError: `out` is a folder.
        InputError: it cannot be written.
    """
    with _naming(out), staged_file(out) as file:
        yield file


@contextmanager
def _naming(out: Path) -> Iterator[None]:
    # What fails while a package is written is the disk, not the request.
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from None
