"""manifest.json, schema 1: written from the records and read back as the same ones.

Fields are added, never renamed.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from exporter.artifact import ModelSpec
from exporter.builds.codec import plain as plain
from exporter.builds.codec import structure
from exporter.builds.records import Manifest, on_its_own_device
from exporter.disk.writing import write_whole
from exporter.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA: Final = 1
FILE_NAME: Final = "manifest.json"

MODEL_NAME: Final = re.compile(r"\w[\w.+-]*")
"""A model's name is part of file names."""


def to_json(manifest: Manifest) -> dict[str, Any]:
    """The manifest as it stands in the file."""
    return {"schema": SCHEMA, **plain(manifest)}


def write(folder: Path, manifest: Manifest) -> Path:
    """Writes `manifest.json` into a build folder, whole or not at all."""
    path = folder / FILE_NAME
    text = json.dumps(to_json(manifest), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_whole(path, text)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; free space or choose another --out"
        ) from None
    return path


def read(folder: Path) -> Manifest:
    """The manifest of a build folder.

    Raises:
        InputError: no manifest there, not JSON, another schema, or fields that do not fit; the
            message names the place.
    """
    return from_json(_parsed(folder), str(folder / FILE_NAME))


def model_name(folder: Path) -> str:
    """The name of the model whose build a folder holds, of whatever version that is.

    Raises:
        InputError: no manifest there, or one that names no model, or by no file name.
    """
    match _parsed(folder):
        case {"model": {"name": str(name)}}:
            _check_model_name(name, str(folder / FILE_NAME))
            return name
    raise InputError(f"{folder / FILE_NAME} names no model; remove {folder} or give another --out")


def _parsed(folder: Path) -> Any:
    path = folder / FILE_NAME
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder} holds no {FILE_NAME}; give a folder that `exporter export` wrote"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); export the model again") from None


def from_json(content: Any, name: str) -> Manifest:
    """The manifest in a parsed JSON file of that name.

    Raises:
        InputError: another schema, or fields that do not fit.
    """
    schema = content.get("schema") if isinstance(content, dict) else None
    if type(schema) is not int or schema != SCHEMA:
        raise InputError(f"{name} has schema {schema!r}, expected {SCHEMA}; export the model again")
    fields = {key: value for key, value in content.items() if key != "schema"}
    manifest = structure(fields, Manifest, name)
    _check_names(manifest, name)
    _check_inputs(manifest.model, name)
    _check_outputs(manifest.model, name)
    return replace(manifest, engines=tuple(map(on_its_own_device, manifest.engines)))


def _check_model_name(model: str, name: str) -> None:
    if not MODEL_NAME.fullmatch(model):
        raise InputError(
            f"{name}: the model's name {model!r} is no file name; export the model again"
        )


def _check_inputs(model: ModelSpec, name: str) -> None:
    """Refuses inputs that cannot be told apart, or do not come in one batch."""
    names, batches = ({one.name for one in model.inputs}, {one.shape[:1] for one in model.inputs})
    problem = "two inputs of the model have one name" if len(names) < len(model.inputs) else None
    if len(batches) > 1:
        problem = "the model's inputs have different batches"
    for given in model.other_inputs and model.inputs:
        if not all(isinstance(size, int) for size in given.shape[1:]):
            problem = f"the sizes of the model's input {given.name!r} are not known"
    if problem:
        raise InputError(f"{name}: {problem}; export the model again")


def _check_outputs(model: ModelSpec, name: str) -> None:
    """Refuses outputs by which a row of answers cannot be taken apart."""
    outputs = model.outputs
    problem = None
    if model.scores is not None and not 0 <= model.scores < len(outputs):
        problem = f"model.scores is {model.scores}, of {len(outputs)} output(s)"
    if len({output.name for output in outputs}) < len(outputs):
        problem = "two outputs of the model have one name"
    for output in outputs:
        sizes = output.shape[1:]
        known = bool(sizes) and all(isinstance(size, int) for size in sizes)
        if not known and (len(outputs) > 1 or model.scores is None):
            problem = f"the sizes of the model's output {output.name!r} are not known"
    if problem:
        raise InputError(f"{name}: {problem}; export the model again")


def _check_names(manifest: Manifest, name: str) -> None:
    """Refuses names with which a file would be read or written outside the build."""
    _check_model_name(manifest.model.name, name)
    for path in _paths(manifest):
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or "\\" in path or "\0" in path:
            raise InputError(f"{name}: {path!r} leads out of the build; export the model again")


def _paths(manifest: Manifest) -> Iterable[str]:
    for engine in manifest.engines:
        yield engine.built_from
        yield from (file.path for file in engine.files)
