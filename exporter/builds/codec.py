"""The records as JSON and back, by cattrs: strictly, so that what is read is what was written.

A figure that is not finite is a string in JSON ("inf"). A type that does not fit, a field that is
missing, or one that this version does not know is an error that names its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from exporter.artifact import Skipped
from exporter.builds.option import declarations
from exporter.builds.records import EngineRecord
from exporter.builds.request import ExportRequest

_NOT_FINITE: Final = {"inf", "-inf", "nan"}
_VIEWS: Final = ("path", "sha256", "bytes")
"""Of an engine's files, for other tools; they follow from `files`."""


def make_converter() -> cattrs.Converter:
    """A converter for the dataclasses of `records.py` and everything inside them."""
    converter = cattrs.Converter(
        forbid_extra_keys=True, unstruct_collection_overrides={tuple: list}
    )
    for kind in (int, bool, str):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(float, _read_float)
    converter.register_unstructure_hook(float, _write_float)
    converter.register_structure_hook(StrEnum, _read_enum)
    converter.register_unstructure_hook(StrEnum, lambda member: member.value)
    converter.register_structure_hook(Path, lambda value, _: Path(_exactly(str)(value, str)))
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook_func(_is_size, _read_size)
    converter.register_structure_hook_factory(_may_be_skipped, _skipped_or(converter))
    converter.register_unstructure_hook_func(
        _may_be_skipped, lambda value: converter.unstructure(value, type(value))
    )
    _register_engines(converter)
    _register_request(converter)
    return converter


def _register_request(converter: cattrs.Converter) -> None:
    left_out: dict[str, Any] = {
        declared.name: override(omit=True)
        for declared in declarations(ExportRequest)
        if declared.option.not_recorded
    }
    write = make_dict_unstructure_fn(ExportRequest, converter, **left_out)
    read = make_dict_structure_fn(
        ExportRequest, converter, _cattrs_forbid_extra_keys=True, **left_out
    )
    converter.register_unstructure_hook(ExportRequest, write)
    converter.register_structure_hook(ExportRequest, read)


def _register_engines(converter: cattrs.Converter) -> None:
    renamed = override(rename="graph")
    write = make_dict_unstructure_fn(EngineRecord, converter, built_from=renamed)
    read = make_dict_structure_fn(
        EngineRecord, converter, built_from=renamed, _cattrs_forbid_extra_keys=True
    )

    def write_engine(record: EngineRecord) -> dict[str, Any]:
        first = record.files[0]
        views = {"path": first.path, "sha256": first.sha256, "bytes": record.bytes}
        return {**write(record), **views}

    def read_engine(value: Any, kind: type[EngineRecord]) -> EngineRecord:
        _expect(isinstance(value, Mapping), value, "an object")
        record = read({key: item for key, item in value.items() if key not in _VIEWS}, kind)
        _expect(bool(record.files), value.get("files"), "at least one file")
        return record

    converter.register_unstructure_hook(EngineRecord, write_engine)
    converter.register_structure_hook(EngineRecord, read_engine)


def _read_enum(value: Any, kind: type[StrEnum]) -> StrEnum:
    known = [member.value for member in kind]
    _expect(type(value) is str and value in known, value, f"one of {', '.join(known)}")
    return kind(value)


def _exactly(kind: type) -> Callable[[Any, Any], Any]:
    def read(value: Any, _: Any) -> Any:
        _expect(type(value) is kind, value, _WORDS[kind])
        return value

    return read


_WORDS: Final[Mapping[type, str]] = {int: "a whole number", bool: "true or false", str: "a text"}


def _read_float(value: Any, _: Any) -> float:
    if isinstance(value, str) and value in _NOT_FINITE:
        return float(value)
    _expect(type(value) in (int, float), value, "a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("expected a number that a float can hold") from None


def _write_float(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _is_size(kind: Any) -> bool:
    return _is_union(kind) and set(get_args(kind)) == {int, str}


def _read_size(value: Any, _: Any) -> int | str:
    """A dimension: a positive size, or the name of a dynamic one."""
    named = isinstance(value, str) and bool(value)
    _expect(named or (type(value) is int and value > 0), value, "a size or the name of one")
    return value  # type: ignore[no-any-return]


def _may_be_skipped(kind: Any) -> bool:
    return _is_union(kind) and Skipped in get_args(kind)


def _skipped_or(converter: cattrs.Converter) -> Callable[[Any], Callable[[Any, Any], Any]]:
    def factory(kind: Any) -> Callable[[Any, Any], Any]:
        (other,) = (one for one in get_args(kind) if one is not Skipped)

        def read(value: Any, _: Any) -> Any:
            skipped = isinstance(value, Mapping) and "skipped" in value
            return converter.structure(value, Skipped if skipped else other)

        return read

    return factory


def _expect(holds: bool, value: Any, wanted: str) -> None:
    if not holds:
        shown = repr(value)
        raise ValueError(f"expected {wanted}, found {shown if len(shown) < 40 else shown[:37]}...")
