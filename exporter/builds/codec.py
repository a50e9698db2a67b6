"""The records as JSON and back, by cattrs: strictly, so that what is read is what was written.

A figure that is not finite is a string in JSON ("inf"). A type that does not fit, a field that is
missing, or one that this version does not know is an error that names its place.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from exporter.artifact import Pixels, Skipped
from exporter.builds.option import declarations
from exporter.builds.records import EngineRecord
from exporter.builds.request import ExportRequest
from exporter.errors import ExporterError, InputError

RENAMED: Final[Mapping[str, str]] = {"built_from": "graph"}
"""Fields that have another name in the file."""
NOT_FINITE: Final = {"inf", "-inf", "nan"}
VIEWS: Final = ("path", "sha256", "bytes")
"""Of an engine's files, for other tools; they follow from `files`."""

T = TypeVar("T")


def plain(value: Any) -> Any:
    """A record, or a container of some, as JSON's own types."""
    return _converter(strict=True).unstructure(value)


def json_text(record: Any) -> str:
    """A record as JSON, for programs."""
    return json.dumps(plain(record), indent=1, ensure_ascii=False)


def structure(
    content: Any,
    kind: type[T],
    name: str,
    *,
    strict: bool = True,
    remedy: str = "export the model again",
) -> T:
    """The record in a parsed JSON file of that name; unless `strict`, unknown fields are left out.

    Raises:
        InputError: it does not fit; the message names the first field that does not, what was
            found there, what was expected, and the remedy.
    """
    try:
        json.dumps(content, ensure_ascii=False).encode()
        return _converter(strict=strict).structure(content, kind)
    except (UnicodeEncodeError, RecursionError):
        problem = "a text in it is no Unicode, or it is nested too deeply"
    except cattrs.BaseValidationError as error:
        problem = " ".join(_first_problem(error, content).split())
    raise InputError(f"{name}: {problem}; {remedy}")


def _first_problem(error: BaseException, content: Any, path: str = "") -> str:
    """The first of cattrs' errors: where, and what is wrong there."""
    place = f"{path}: " if path else ""
    if isinstance(error, cattrs.IterableValidationError):
        for cause, at in error.group_exceptions()[0]:
            shown = f"[{json.dumps(at.index)}]"
            return _first_problem(cause, content[at.index], path + shown)
    if isinstance(error, cattrs.ClassValidationError):
        if not isinstance(content, Mapping):
            return f"{place}{_expected('an object', content)}"
        for cause, field in error.group_exceptions()[0]:
            key = RENAMED.get(field.name, field.name)
            inner = f"{path}.{key}" if path else key
            if key not in content:
                return f"{inner}: a required field is missing"
            return _first_problem(cause, content[key], inner)
        return _first_problem(error.exceptions[0], content, path)
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        unknown = ", ".join(sorted(error.extra_fields))
        return f"{place}unknown field {unknown} (of a newer version, or a slip)"
    if isinstance(error, ValueError | ExporterError):
        return f"{place}{error}"
    # Every hook here says what it expects; cattrs' own for a mapping does not.
    return f"{place}{_expected('an object', content)}"


@functools.cache
def _converter(*, strict: bool) -> cattrs.Converter:
    """Reads and writes the dataclasses of `records.py` and everything inside them."""
    converter = cattrs.Converter(
        forbid_extra_keys=strict, unstruct_collection_overrides={tuple: list}
    )
    for kind in (bool, str):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(int, _read_int)
    converter.register_structure_hook(float, _read_float)
    converter.register_unstructure_hook(float, _write_float)
    converter.register_structure_hook(StrEnum, _read_enum)
    converter.register_unstructure_hook(StrEnum, lambda member: member.value)
    converter.register_structure_hook_func(_is_literal, _read_enum)
    converter.register_structure_hook_factory(_is_tuple, _list_of(converter))
    converter.register_structure_hook(Path, lambda value, _: Path(_exactly(str)(value, str)))
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook_func(is_size, _read_size)
    converter.register_structure_hook_func(is_pixels, _read_pixels)
    converter.register_unstructure_hook_func(
        is_pixels, lambda value: list(value) if isinstance(value, tuple) else value
    )
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
        record = read({key: item for key, item in value.items() if key not in VIEWS}, kind)
        _expect(bool(record.files), value.get("files"), "at least one file")
        return record

    converter.register_unstructure_hook(EngineRecord, write_engine)
    converter.register_structure_hook(EngineRecord, read_engine)


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _read_enum(value: Any, kind: Any) -> Any:
    """A member of an enum, or of those that a Literal allows."""
    members = {str(member): member for member in get_args(kind) or kind}
    known = type(value) is str and value in members
    _expect(known, value, f"one of {', '.join(members)}")
    return members[value]


def _exactly(kind: type) -> Callable[[Any, Any], Any]:
    words = {bool: "true or false", str: "a text"}[kind]

    def read(value: Any, _: Any) -> Any:
        _expect(type(value) is kind, value, words)
        return value

    return read


def _read_int(value: Any, _: Any) -> int:
    _expect(type(value) is int, value, "a whole number")
    _expect(abs(value) < 2**63, value, "a whole number of 64 bits")
    return int(value)


def _read_float(value: Any, _: Any) -> float:
    if isinstance(value, str) and value in NOT_FINITE:
        return float(value)
    _expect(type(value) in (int, float), value, "a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("expected a number that a float can hold") from None


def _write_float(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _list_of(converter: cattrs.Converter) -> Callable[[Any], Callable[[Any, Any], Any]]:
    """A list alone becomes a tuple: cattrs would take a text or an object for one, too."""

    def factory(kind: Any) -> Callable[[Any, Any], Any]:
        kinds = get_args(kind)

        def read_any(value: Any, _: Any) -> Any:
            _expect(isinstance(value, list), value, "a list")
            return tuple(converter.structure(value, list[kinds[0]]))  # type: ignore[valid-type]

        def read_fixed(value: Any, _: Any) -> Any:
            fits = isinstance(value, list) and len(value) == len(kinds)
            _expect(fits, value, f"a list of {len(kinds)} values")
            return tuple(map(converter.structure, value, kinds))

        return read_any if kinds[1:] == (...,) else read_fixed

    return factory


def is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def is_size(kind: Any) -> bool:
    return is_union(kind) and set(get_args(kind)) == {int, str}


def _read_size(value: Any, _: Any) -> int | str:
    """A dimension: a positive size, or the name of a dynamic one."""
    named = isinstance(value, str) and bool(value)
    _expect(named or (type(value) is int and value > 0), value, "a size or the name of one")
    return value  # type: ignore[no-any-return]


def is_pixels(kind: Any) -> bool:
    return is_union(kind) and set(get_args(Pixels)) <= set(get_args(kind))


def _read_pixels(value: Any, kind: Any) -> Pixels | None:
    """A length, or a list of height and width."""
    if value is None and type(None) in get_args(kind):
        return None
    lengths = value if isinstance(value, list) and len(value) == 2 else [value]
    fits = all(type(length) is int and length > 0 for length in lengths)
    _expect(fits, value, "a length in pixels, or a list of height and width")
    return (lengths[0], lengths[1]) if len(lengths) == 2 else lengths[0]


def _may_be_skipped(kind: Any) -> bool:
    return is_union(kind) and Skipped in get_args(kind)


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
        raise ValueError(_expected(wanted, value))


def _expected(wanted: str, value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return f"expected {wanted}, found {shown if len(shown) < 40 else f'{shown[:37]}...'}"
