"""`exporter cache`: what is kept from one export to the next, how large it is, and clearing it.

All of it can be made again: without it an export takes longer, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from exporter import host
from exporter.builds.codec import json_text
from exporter.disk.writing import can_write
from exporter.errors import InputError, UsageError
from exporter.progress import is_terminal

if TYPE_CHECKING:
    from rich.console import Console

KINDS: Final[Mapping[str, str]] = {
    "ranges": "calibrated ranges of INT8",
    "search": "measured sets of blocks in FP32",
    "timing": "times of TensorRT's kernels",
}


@dataclass(frozen=True)
class Kept:
    """One folder of the cache."""

    name: str
    what: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Cache:
    """Everything that is kept."""

    folder: Path | None
    """None: this user has no home, so nothing is kept."""
    writable: bool
    kept: tuple[Kept, ...]

    @property
    def bytes(self) -> int:
        return sum(kept.bytes for kept in self.kept)

    def to_json(self) -> str:
        """The same, for programs."""
        return json_text(self)


def look() -> Cache:
    """What the cache holds now."""
    folder = host.cache_folder()
    if folder is None:
        return Cache(None, False, ())
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        inside = []
    return Cache(folder, can_write(folder), tuple(_kept(path) for path in inside))


def _kept(folder: Path) -> Kept:
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return Kept(folder.name, KINDS.get(folder.name, "of another version"), len(files), size)


def clear_when_agreed(cache: Cache, agreed: bool) -> Cache:
    """What is left after clearing, about which a person is asked unless it is `agreed`.

    Raises:
        UsageError: nobody is there to be asked.
        typer.Abort: they said no.
    """
    if not cache.kept:
        return cache
    if not agreed:
        if not is_terminal(sys.stdin):
            raise UsageError("--clear asks before it removes anything; here add --yes")
        typer.confirm(f"remove {cache.bytes / 1e6:.1f} MB in {cache.folder}?", abort=True)
    clear(cache)
    return look()


def clear(cache: Cache) -> None:
    """Removes what the cache holds; the folder itself stays.

    Raises:
        InputError: something cannot be removed.
    """
    if cache.folder is None:
        return
    for kept in cache.kept:
        try:
            shutil.rmtree(cache.folder / kept.name)
        except OSError as error:
            raise InputError(
                f"cannot remove {os.fspath(error.filename or cache.folder)}: {error.strerror}"
            ) from None


def render(cache: Cache, console: Console) -> None:
    """Where it is, and what is in it."""
    from rich.table import Table

    from exporter.commands.print_table import print_table

    if cache.folder is None:
        console.print("nothing is kept: no home folder here; set XDG_CACHE_HOME to a folder")
        return
    state = "" if cache.writable else " (cannot be written: nothing more is kept)"
    console.print(f"{cache.folder}{state}: {_size(cache.bytes)}", markup=False, soft_wrap=True)
    if cache.kept:
        table = Table("name", "what", "files", "size")
        for kept in cache.kept:
            table.add_row(kept.name, kept.what, str(kept.files), _size(kept.bytes))
        print_table(table, console, markup=False)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
