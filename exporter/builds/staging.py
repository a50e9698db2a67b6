"""The one way in which a finished folder or file takes its place: written aside, then swapped in.

Everything is written into a scratch folder on the destination's file system. Once it is whole, what
was there is moved aside and the new content moved in, by renames alone. Any error or interruption
undoes those renames; only what was replaced is ever deleted.

A destination folder that exists stays the very same directory, and only its contents are exchanged:
it may be a mount point, somebody's working directory, or shared with a container. Where the system
can lock a folder, one process at a time exchanges its contents, so that of two that finish together
one is left, whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from exporter.disk.writing import flush
from exporter.errors import InputError, UsageError

_SUFFIX = ".partial"


@contextmanager
def staged_folder(destination: Path, ours: Sequence[str] | None = None) -> Iterator[Path]:
    """A new folder to write in; on success its contents replace those of `destination`.

    `ours` are the names that are replaced, the last of them first out and last in; what else lies
    in the destination stays. None: everything is replaced. On any error or interruption the
    destination is as it was.

    Raises:
        InputError: the destination cannot be written.
    """
    destination = Path(os.path.realpath(destination))
    with _scratch(destination) as scratch:
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        yield new
        try:
            _put(new, destination, old, ours)
        except OSError as error:
            kept = f"; what was there is now in {old}" if _holds_anything(old) else ""
            reason = error.strerror or error
            raise InputError(f"cannot write {destination}: {reason}{kept}") from None


@contextmanager
def staged_file(destination: Path) -> Iterator[Path]:
    """A file name to write to; on success the file takes the place of `destination`.

    Raises:
        UsageError: the destination is a folder.
        InputError: it cannot be written.
    """
    if destination.is_dir():
        raise UsageError(f"--out {destination} is a folder; give the name of a file")
    with _scratch(destination.absolute()) as scratch:
        new = scratch / "new" / destination.name
        new.parent.mkdir()
        yield new
        try:
            flush(new)
            new.replace(destination)
        except OSError as error:
            raise InputError(f"cannot write {destination}: {error.strerror}") from None


def check_writable(destination: Path) -> None:
    """Refuses now what `staged_folder` and `staged_file` could not write later.

    Raises:
        InputError: the destination cannot be written.
    """
    place = Path(os.path.realpath(destination))
    if not place.is_dir():  # then in the folder that is there of those that lead to it
        place = next(folder for folder in (place, *place.parents) if folder.exists()) / "build"
    with _scratch(place, destination):
        pass


def is_scratch(name: str) -> bool:
    """Whether a name is that of a scratch folder, left behind by a process that was killed."""
    return name.startswith(".") and name.endswith(_SUFFIX)


@contextmanager
def _scratch(destination: Path, named: Path | None = None) -> Iterator[Path]:
    """A folder for content that will be renamed into its place, removed in the end.

    `named` is what an error names, if that is another.
    """
    try:
        scratch = _make_scratch(destination)
    except OSError as error:
        place = named or destination
        raise InputError(
            f"cannot write to {place}: {error.strerror}; choose another place with --out"
        ) from None
    try:
        yield scratch
    finally:
        # What could not be put back is not deleted: it is all that is left of the old content.
        if not _holds_anything(scratch / "old"):
            shutil.rmtree(scratch, ignore_errors=True)


def _holds_anything(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _make_scratch(destination: Path) -> Path:
    """Beside the destination; inside, where it is a mount point or its parent not to be written."""
    name = f".{destination.name}."
    if not destination.is_dir():
        destination.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(_SUFFIX, name, destination.parent))
    with contextlib.suppress(OSError):
        beside = Path(tempfile.mkdtemp(_SUFFIX, name, destination.parent))
        inside = destination / beside.name
        try:
            return beside.replace(inside).replace(beside)
        except OSError:
            (inside if inside.exists() else beside).rmdir()
            raise
    return Path(tempfile.mkdtemp(_SUFFIX, name, destination))


def _put(new: Path, destination: Path, old: Path, ours: Sequence[str] | None) -> None:
    """Moves the contents of `new` into the destination, and what they replace into `old`."""
    for path in new.rglob("*"):
        if path.is_file():
            flush(path)
    if not destination.exists():
        try:
            new.replace(destination)
        except OSError:
            if not destination.is_dir():  # else another process has just been first
                raise
        else:
            return
    old.mkdir()
    with _locked(destination):
        coming = _ordered([path.name for path in new.iterdir()], ours)
        there = [path.name for path in destination.iterdir() if not is_scratch(path.name)]
        replaced = there if ours is None else [n for n in there if n in ours or n in coming]
        leaving = reversed(_ordered(replaced, ours))
        _move_all(
            [(destination / name, old / name) for name in leaving]
            + [(new / name, destination / name) for name in coming]
        )
    old.replace(old.with_name("replaced"))


def _ordered(names: Iterable[str], ours: Sequence[str] | None) -> list[str]:
    places = {name: place for place, name in enumerate(ours or ())}
    return sorted(names, key=lambda name: (places.get(name, -1), name))


def _move_all(moves: Sequence[tuple[Path, Path]]) -> None:
    """Renames each (from, to) in turn: all of them, or on any exception none."""
    begun: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            begun.append((source, target))
            source.replace(target)
    except BaseException:
        for source, target in reversed(begun):
            # The last one may have happened or not, wherever an interruption came.
            if not os.path.lexists(source) and os.path.lexists(target):
                target.replace(source)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Waits until no other process exchanges the contents of the folder."""
    try:
        import fcntl
    except ImportError:  # Windows has no lock on folders
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # nor have some network file systems
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
