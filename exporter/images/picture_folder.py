"""A folder of pictures: which files are in it, and the classes that its sub-folders stand for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from exporter.artifact import Skipped
from exporter.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")

NOT_READ = (".gif", ".apng", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".eps", ".psd")
"""Of pictures in formats that are not read."""


def find_pictures(folder: Path) -> list[Path]:
    """Every picture below `folder`, sorted; links are followed, each folder is entered once.

    Raises:
        InputError: none is there; a link leads nowhere; a folder below cannot be read.
    """
    files = sorted(_below(folder))
    if not files:
        raise InputError(f"--data {folder}: no image in it ({', '.join(SUFFIXES[:4])}, ...)")
    return files


def not_read(folder: Path) -> list[Path]:
    """Every file below `folder` that is a picture in a format that is not read, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in NOT_READ)


def class_numbers(
    folder: Path, pictures: Sequence[Path], classes: int | str
) -> dict[str, int] | Skipped | None:
    """The number of each sub-folder as a class of a model that has `classes`.

    None where no picture is in a sub-folder; skipped, with the reason, where they are no labels.
    """
    outside = [file for file in pictures if file.parent.parent != folder]
    if all(file.parent == folder for file in pictures):
        return None
    if outside:
        return Skipped(f"{outside[0].relative_to(folder)} is not in a sub-folder of its class")
    names = sorted({file.parent.name for file in pictures})
    if len(names) != classes:
        return Skipped(f"{len(names)} sub-folders have pictures, the model has {classes} classes")
    return {name: number for number, name in enumerate(names)}


def _below(folder: Path) -> Iterator[Path]:
    entered: set[tuple[int, int]] = set()
    dangling: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        status = Path(parent).stat()
        place = (status.st_dev, status.st_ino)
        if place in entered:  # a link to a folder that was met before, or to one above itself
            folders.clear()
            continue
        entered.add(place)
        folders.sort()
        for name in names:
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path
            elif path.is_symlink() and not path.exists():
                dangling.append(path)
    if dangling:
        first = min(dangling)
        others = f", and {len(dangling) - 1} more like it" if len(dangling) > 1 else ""
        raise InputError(
            f"{first} is a link to {first.readlink()}, where nothing is{others}; mend or remove"
        )


def _refuse(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename} cannot be read ({error.strerror}); mend or remove it")
