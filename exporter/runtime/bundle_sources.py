"""Where a bundle's files come from: a folder, or an archive that is read once.

An archive is read into memory and never unpacked, so that no name in it can reach a disk, and
nothing in it is read before somebody looked at its size.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from exporter.runtime.errors import BundleError, missing_package

MAX_ARCHIVE_BYTES: Final = 8 << 30
"""An archive that unpacks to more than this is refused: no bundle of ours comes near."""
MAX_EXPANSION: Final = 100
"""Weights hardly shrink: a bundle unpacks to a few times its size..."""
MAX_SMALL_BYTES: Final = 1 << 30
"""...or to no more than this."""
MAX_HEADER_BYTES: Final = 1 << 20
"""What may stand between two files of an archive: their names, at most a few kilobytes in ours."""

_DAMAGED: Final = (tarfile.TarError, EOFError, ValueError, LookupError, RecursionError)
"""What tarfile raises for malformed headers."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a bundle, not read yet."""

    name: str
    """The path, relative, with forward slashes."""
    size: int
    """In bytes."""
    read: Callable[[], bytes]
    """At most `size` bytes. In an archive: before the next file is asked for."""


def in_folder(path: Path, first: Sequence[str]) -> Generator[SourceFile, None, None]:
    """The files of a folder, those named in `first` before the others.

    Raises:
        BundleError: it does not exist, or holds something else than files and folders.
    """
    if not path.is_dir():
        raise BundleError(f"{path} does not exist; give a bundle's folder or .tar.zst file")
    names: set[str] = set()
    for folder, folders, files in os.walk(path):
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise BundleError(
                    f"{path}: {name} is a link to a folder, and those are not followed; "
                    "copy the bundle with its links resolved, as `cp -rL` does"
                )
        names.update((Path(folder) / file).relative_to(path).as_posix() for file in files)
    for name in [*(name for name in first if name in names), *sorted(names - set(first))]:
        with _readable(path, name):
            found = (path / name).stat()
        if not stat.S_ISREG(found.st_mode):
            raise BundleError(f"{path}: {name} is no regular file; a bundle holds files only")
        yield SourceFile(name, found.st_size, partial(_contents, path, name, found.st_size))


def _contents(path: Path, name: str, size: int) -> bytes:
    with _readable(path, name), (path / name).open("rb") as stream:
        return stream.read(size)


@contextmanager
def _readable(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BundleError(f"{path}: cannot read {name}: {error.strerror}") from None


def is_safe_name(name: str) -> bool:
    """Whether a path stays inside the folder it is relative to, on every operating system."""
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and not name.startswith("/")
        and ".." not in parts
        and not any(character in name for character in "\\:\0\r\n")
        and name == "/".join(parts)
    )


class _Metered:
    """A stream of an archive that ends with an error where more comes than was announced.

    tarfile holds a name or an attribute of any size in memory before it is asked about it.
    """

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream = stream
        self._path = path
        self._left = MAX_HEADER_BYTES

    def expect(self, size: int) -> None:
        """A file's contents come, then the next header."""
        self._left = size + MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        contents = self._stream.read(size)
        self._left -= len(contents)
        if self._left < 0:
            raise BundleError(
                f"{self._path} has more than {MAX_HEADER_BYTES >> 20} MiB between two files; "
                "this is no bundle of ours"
            )
        return contents


def in_archive(path: Path) -> Generator[SourceFile, None, None]:
    """The files of a `.tar.zst` archive of one folder, in its order.

    Raises:
        BundleError: it is damaged, unpacks to too much, or holds something else than files; also
            where a file is read.
    """
    try:
        import zstandard
    except ModuleNotFoundError:
        hint = missing_package(f"reading {path.name}", "zstandard")
        raise BundleError(f"{hint}; or unpack it: tar --zstd -xf {path.name}") from None

    @contextmanager
    def whole() -> Iterator[None]:
        try:
            yield
        except (*_DAMAGED, zstandard.ZstdError) as error:
            raise BundleError(
                f"{path} is not a whole .tar.zst archive ({error}); copy it again"
            ) from None
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror or error}") from None

    def contents(member: tarfile.TarInfo) -> bytes:
        with whole():
            stream = archive.extractfile(member)
            assert stream is not None  # a regular file has contents
            return stream.read()

    with (
        whole(),
        path.open("rb") as packed,
        zstandard.ZstdDecompressor().stream_reader(packed) as unpacked,
    ):
        metered = _Metered(unpacked, path)
        # A Metered has all that tarfile asks of a stream.
        with tarfile.open(fileobj=cast(IO[bytes], metered), mode="r|") as archive:
            for name, member in _members(path, archive):
                metered.expect(member.size)
                yield SourceFile(name, member.size, partial(contents, member))


def _members(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The regular files with their names inside the one folder; nothing else may be there."""
    total, root, seen = 0, None, set()
    largest = min(MAX_ARCHIVE_BYTES, max(MAX_SMALL_BYTES, MAX_EXPANSION * path.stat().st_size))
    for member in archive:
        if not is_safe_name(member.name):
            raise BundleError(
                f"{path}: the archive holds the unsafe path {member.name!r}; "
                "this is no bundle of ours"
            )
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise BundleError(
                f"{path}: {member.name} is a link or a device; a bundle holds files only"
            )
        total += member.size
        if total > largest:
            raise BundleError(
                f"{path} unpacks to more than {largest >> 20:,} MiB; this is no bundle of ours"
            )
        folder, _, name = member.name.partition("/")
        root = root or folder
        if folder != root or not name or name in seen:
            raise BundleError(
                f"{path}: {member.name} is there twice or outside the bundle's folder; "
                "this is no bundle of ours"
            )
        seen.add(name)
        yield name, member
