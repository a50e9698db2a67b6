"""Pictures that are files of their own: in a folder, or in a list."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.errors import InputError
from exporter.images.picture_folder import NOT_READ, SUFFIXES, find_pictures, not_read
from exporter.images.sources.source import PART, Encoded, Source
from exporter.images.sources.storage import is_local, opened_file, reaching, read_each, resolved


@dataclass(frozen=True)
class Files:
    """Some files of one store."""

    uri: str
    files: tuple[tuple[str, str], ...]
    """(name, path in the store) of each."""
    labels: tuple[str | None, ...]

    @property
    def count(self) -> int:
        """The pictures of this part."""
        return len(self.files)

    def pictures(self) -> Iterator[Encoded]:
        """Each file's contents."""
        return read_each(self.uri, self.files, self.labels)


def open_folder(uri: str, system: Any, path: str) -> Source:
    """Every picture below a folder; where each is in a sub-folder, that is its label.

    Raises:
        InputError: none is there.
    """
    if is_local(uri):
        folder = Path(uri)
        found = [file.absolute().as_posix() for file in find_pictures(folder)]
        others = [file.relative_to(folder).as_posix() for file in not_read(folder)]
    else:
        with reaching(uri):
            listed = sorted(system.find(path))
        found = [file for file in listed if file.lower().endswith(SUFFIXES)]
        others = [_below(path, file) for file in listed if file.lower().endswith(NOT_READ)]
        if not found:
            raise InputError(f"--data {uri}: no image in it ({', '.join(SUFFIXES[:4])}, ...)")
    root = Path(uri).absolute().as_posix() if is_local(uri) else path
    files = [(_below(root, file), file) for file in found]
    folders = [posixpath.dirname(name) for name, _ in files]
    labelled = all(folders) and not any("/" in folder for folder in folders)
    notes = []
    if any(folders) and not labelled:
        odd = next(
            name
            for (name, _), folder in zip(files, folders, strict=True)
            if not folder or "/" in folder
        )
        notes.append(f"{odd} is not in a sub-folder of its class, so there are no labels")
    return Source(
        name=f"folder {posixpath.basename(root.rstrip('/')) or uri}",
        parts=_parts(uri, files, folders if labelled else [None] * len(files)),
        labelled=labelled,
        labels=frozenset(folders) if labelled else None,
        unreadable=tuple(f"{file} is in a format that is not read" for file in others),
        notes=tuple(notes),
    )


def open_list(uri: str) -> Source:
    """The pictures of a text with a path a line, or of a CSV of path and label.

    A path is taken from the list's own folder; a URI or an absolute one as it is.

    Raises:
        InputError: it cannot be read, or is empty.
    """
    with opened_file(uri) as stream:
        content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"--data {uri} is no list of pictures: not UTF-8 ({error})") from None
    rows = [[cell.strip() for cell in row] for row in _rows(uri, text) if row and row[0].strip()]
    if rows and rows[0][0].lower() in {"file", "image", "filename", "path"}:
        del rows[0]
    if not rows:
        raise InputError(f"--data {uri} names no picture; give a path, or PATH,LABEL, a line")
    widths = {len(row) for row in rows}
    if widths not in ({1}, {2}):
        raise InputError(f"--data {uri}: give a path, or PATH,LABEL, in each line and nothing else")
    labels = [row[1] if len(row) == 2 else None for row in rows]
    stores = sorted({_store(row[0]) for row in rows})
    if len(stores) > 1:
        raise InputError(
            f"--data {uri} names pictures of several stores "
            f"({', '.join(one or 'its own' for one in stores)}); give each one a list of its own"
        )
    store = uri if stores == [""] else rows[0][0]
    folder = posixpath.dirname(resolved(uri)[1])
    files = [(row[0], _absolute(folder, row[0])) for row in rows]
    return Source(
        name=f"list {posixpath.basename(uri)}",
        parts=_parts(store, files, labels),
        labelled=widths == {2},
        labels=frozenset(label for label in labels if label is not None) or None,
    )


def _rows(uri: str, text: str) -> list[list[str]]:
    if not uri.endswith(".csv"):
        return [[line] for line in text.splitlines()]
    try:
        return list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise InputError(f"--data {uri} is no CSV ({error})") from None


def _store(path: str) -> str:
    """The protocol of a URI; "": it is none, so it is in the list's own store."""
    return "" if is_local(path) else f"{path.partition('://')[0]}://"


def _absolute(folder: str, path: str) -> str:
    if not is_local(path):
        return resolved(path)[1]
    return path if path.startswith("/") else posixpath.normpath(posixpath.join(folder, path))


def _below(folder: str, file: str) -> str:
    return file.removeprefix(folder.rstrip("/") + "/").lstrip("/")


def _parts(
    uri: str, files: Sequence[tuple[str, str]], labels: Sequence[str | None]
) -> tuple[Files, ...]:
    starts = range(0, len(files), PART)
    return tuple(
        Files(uri, tuple(files[at : at + PART]), tuple(labels[at : at + PART])) for at in starts
    )
