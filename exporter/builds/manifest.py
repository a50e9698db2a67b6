"""manifest.json, schema 1: the one record of a build; the report and the bundle are views of it.

Fields are those of `artifact.py`, plus `id`-level views that other tools rely on (`path`, `sha256`
and `bytes` of an engine's first file). Fields are added, never renamed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from exporter.artifact import EngineRecord, ModelSpec
from exporter.errors import InputError

SCHEMA = 1
FILE_NAME = "manifest.json"


def engine_entry(record: EngineRecord) -> dict[str, Any]:
    """One element of the manifest's `engines`."""
    engine = record.engine
    first = engine.files[0]
    return {
        "id": engine.id,
        "target": engine.target,
        "precision": engine.precision,
        "dialect": engine.dialect,
        "path": first.path,
        "sha256": first.sha256,
        "bytes": sum(file.bytes for file in engine.files),
        "graph": engine.graph,
        "files": plain(engine.files),
        "trained": engine.trained,
        "requires": plain(engine.requires),
        "receipt": plain(record.receipt),
        "parity": plain(record.parity),
        "accuracy": plain(record.accuracy),
        "latency": plain(record.latency),
        "latency_by_batch": plain(record.latency_by_batch),
        "notes": plain(record.notes),
        "predicted": plain(record.predicted),
        "profile": plain(record.profile),
    }


def model_entry(spec: ModelSpec) -> dict[str, Any]:
    """The manifest's `model`."""
    entry: dict[str, Any] = plain(spec)
    return entry


def plain(value: Any) -> Any:
    """Dataclasses, enums and tuples as JSON's own types; a non-finite figure is a string."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """Writes `manifest.json` into a build folder, whole or not at all."""
    path = folder / FILE_NAME
    temporary = folder / f".{FILE_NAME}.partial"
    text = json.dumps(plain(manifest), indent=1, ensure_ascii=False) + "\n"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"cannot write {path}: {error.strerror}; free space or choose another --out"
        ) from None
    return path


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a build folder.

    Raises:
        InputError: no manifest there, not JSON, or another schema.
    """
    path = folder / FILE_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder} holds no {FILE_NAME}; give a folder that `exporter export` wrote"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); export the model again") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else None
        raise InputError(f"{path} has schema {found!r}, expected {SCHEMA}; export the model again")
    return manifest
