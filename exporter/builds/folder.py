"""Where a build lands: written whole beside its destination, then moved there.

Layout (DESIGN of `manifest.json` paths): onnx/, engines/<target>/, debug/, golden.npz, report.html,
report.json, manifest.json. A destination that holds anything else is left alone.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.artifact import REJECTED, Dialect, EngineFile, Precision
from exporter.builds import manifest as manifests
from exporter.builds.staging import check_writable, is_scratch, staged_folder
from exporter.disk.names import check_name
from exporter.errors import InputError, UsageError
from exporter.models.names import is_onnx, model_name
from exporter.targets import folder_name

CONTENTS = (
    "onnx",
    "engines",
    "debug",
    "golden.npz",
    "report.html",
    "report.json",
    manifests.FILE_NAME,  # last: without it the folder is no build
)


def default_folder(model: str) -> Path:
    """Where the build of a model of that name lies, unless `--out` says otherwise."""
    return Path("build") / model


def find_build(given: str | os.PathLike[str]) -> Path:
    """The folder of a build: what was given, or the default one of the model that was.

    Raises:
        InputError: neither is a folder.
    """
    folder = Path(given)
    if folder.is_dir():
        return folder
    source = os.fspath(given)
    if folder.name != source and not is_onnx(source):  # a path, and no model's name
        raise InputError(
            f"{source} is no folder; give one that `exporter export` wrote, or its MODEL"
        )
    default = default_folder(model_name(source))
    if default.is_dir():
        return default
    raise InputError(
        f"there is no build of {source} in {default}; "
        f"run: exporter export {shlex.quote(source)}, or give the folder that it is in"
    )


def destination_for(out: Path | None, source: str) -> Path:
    """Where the build of the model that `source` names will lie; `out`: what was asked for.

    Raises:
        UsageError: see `check_destination`.
        InputError: it cannot be written, or its name is not UTF-8.
    """
    model = model_name(source)
    destination = out or default_folder(model)
    check_name(destination.absolute())
    check_destination(destination, model)
    check_writable(destination)
    return destination


@dataclass(frozen=True)
class BuildFolder:
    """The folder of one build, with the names that things have in it."""

    root: Path
    model: str

    def portable_path(self, precision: Precision) -> Path:
        """The portable ONNX file of a precision."""
        return self.root / "onnx" / f"{self.model}.{precision}.onnx"

    def lowered_path(self, precision: Precision, dialect: Dialect, target: str = "") -> Path:
        """A lowered graph that no engine's file already is; `target`: the one that it is for."""
        own = f".{folder_name(target)}" if target else ""
        return self.root / "onnx" / f"{self.model}.{precision}{own}.{dialect}.onnx"

    def engine(self, target: str, precision: Precision) -> Path:
        """The engine's file, without its suffix."""
        return self.root / "engines" / folder_name(target) / str(precision)

    @property
    def golden(self) -> Path:
        return self.root / "golden.npz"

    def entry(self, path: Path) -> EngineFile:
        """A file of this folder as the manifest lists it."""
        return EngineFile(
            path=path.relative_to(self.root).as_posix(),
            sha256=sha256_of(path),
            bytes=path.stat().st_size,
        )

    def share_portable(self, files: tuple[Path, ...], precision: Precision) -> tuple[Path, ...]:
        """An engine that is byte for byte the portable file points at it."""
        portable = self.portable_path(precision)
        if len(files) == 1 and portable.exists() and files[0].read_bytes() == portable.read_bytes():
            files[0].unlink()
            return (portable,)
        return files

    def reject(self, file: EngineFile) -> EngineFile:
        """Gives a file of an engine that failed a gate a name that no runtime will load."""
        path = self.root / file.path
        rejected = path.with_name(path.name + REJECTED)
        # The portable graph stays what it is; the engine that pointed at it gets a copy.
        if path.parent.name == "onnx":
            rejected = self.root / "engines" / "rejected" / (path.name + REJECTED)
            rejected.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, rejected)
        else:
            path.replace(rejected)
        return replace(file, path=rejected.relative_to(self.root).as_posix())


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_destination(destination: Path, model: str) -> None:
    """Refuses a destination that a build of `model` must not replace.

    Raises:
        UsageError: it is a file, holds another model's build, or things that no build made.
    """
    if destination.is_file():
        raise UsageError(f"--out {destination} is a file; give a folder that is new or a build's")
    if not destination.is_dir():
        return
    names = {entry.name for entry in destination.iterdir() if not is_scratch(entry.name)}
    if manifests.FILE_NAME not in names:
        if names:
            raise UsageError(
                f"--out {destination} is not empty and holds no build; give a new or empty folder"
            )
        return
    held = manifests.model_name(destination)
    if held != model:
        raise UsageError(
            f"--out {destination} holds a build of {held}, not {model}; "
            "give another folder or remove that one"
        )


@contextmanager
def staged(destination: Path, model: str) -> Iterator[BuildFolder]:
    """A folder to build in; on success its contents replace those of `destination`.

    On any error or interruption the destination is as it was. What no build made stays in it.

    Raises:
        UsageError: see `check_destination`.
        InputError: the destination cannot be written.
    """
    check_destination(destination, model)
    with staged_folder(destination, CONTENTS) as folder:
        yield BuildFolder(folder, model)
