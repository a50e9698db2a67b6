"""The JSON Schema of manifest.json, made from the records that the codec reads and writes.

It says what `codec.py` says and no more: names, types, what is required, and that nothing else is
there. That no path leads out of the build, no JSON Schema can say; `manifest.py` checks it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args, get_origin, get_type_hints

import attrs

from exporter.builds.codec import NOT_FINITE, RENAMED, VIEWS, is_pixels, is_size, is_union
from exporter.builds.converters import MOST_DECIBELS
from exporter.builds.manifest import MODEL_NAME, SCHEMA
from exporter.builds.option import Option, declarations
from exporter.builds.records import EngineRecord, Manifest
from exporter.builds.request import ExportRequest

JsonObject: TypeAlias = dict[str, Any]

_SIMPLE: Final[Mapping[Any, JsonObject]] = {
    bool: {"type": "boolean"},
    str: {"type": "string"},
    int: {"$ref": "#/$defs/whole"},
    float: {"$ref": "#/$defs/number"},
    Path: {"type": "string"},
    NoneType: {"type": "null"},
    Any: {},
}
_SIZE: Final[JsonObject] = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "minLength": 1, "description": "The name of a dynamic dimension."},
    ]
}
_PIXELS: Final[Sequence[JsonObject]] = (
    {"type": "integer", "minimum": 1},
    {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2},
)
_SHARE: Final = r"^[0-9]+(\.[0-9]+)?(e-[0-9]+)?%$"
"""A percentage as it is recorded; which are budgets, `converters.py` says."""
_NUMBERS: Final[Mapping[str, JsonObject]] = {
    "whole": {"type": "integer", "exclusiveMinimum": -(2**63), "exclusiveMaximum": 2**63},
    "number": {
        "anyOf": [{"type": "number"}, {"enum": sorted(NOT_FINITE)}],
        "description": "JSON has no infinity: what is not finite is a text.",
    },
}


def manifest_schema() -> JsonObject:
    """The schema (draft 2020-12), as JSON's own types."""
    definitions: dict[str, JsonObject] = {}
    root = _record(Manifest, definitions)
    root["properties"] = {"schema": {"const": SCHEMA}, **root["properties"]}
    root["required"] = ["schema", *root["required"]]
    # What is checked beyond the types.
    definitions["ModelSpec"]["properties"]["name"]["pattern"] = f"^(?:{MODEL_NAME.pattern})$"
    definitions["ExportRequest"]["properties"]["batches"]["items"]["minimum"] = 1
    decibels = {"exclusiveMinimum": 0, "maximum": MOST_DECIBELS}
    definitions["ExportRequest"]["properties"]["min_sqnr"]["anyOf"][0] |= decibels
    for share in ("max_drop", "min_agreement"):
        definitions["ExportRequest"]["properties"][share]["anyOf"][0]["pattern"] = _SHARE
    definitions["ModelSpec"]["properties"]["scores"]["anyOf"][0]["minimum"] = 0
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"manifest.json of resnet-exporter, schema {SCHEMA}",
        **root,
        "$defs": {**dict(sorted(definitions.items())), **_NUMBERS},
    }


def _of(kind: Any, definitions: dict[str, JsonObject]) -> JsonObject:
    """The schema of one type; records are added to the definitions."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if kind in _SIMPLE:
        return dict(_SIMPLE[kind])
    if get_origin(kind) is Literal:
        return {"enum": [str(member) for member in get_args(kind)]}
    if is_size(kind):
        return _SIZE
    if is_pixels(kind):
        none = [{"type": "null"}] if NoneType in get_args(kind) else []
        return {"anyOf": [*_PIXELS, *none]}
    if is_union(kind):
        return {"anyOf": [_of(one, definitions) for one in get_args(kind)]}
    if get_origin(kind) is tuple:
        return _list(get_args(kind), definitions)
    if get_origin(kind) in (dict, Mapping):
        return {"type": "object", "additionalProperties": _of(get_args(kind)[1], definitions)}
    if issubclass(kind, StrEnum):
        return {"enum": [member.value for member in kind]}
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # in place before its fields, which may name it again
        definitions[kind.__name__] = _record(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _list(kinds: tuple[Any, ...], definitions: dict[str, JsonObject]) -> JsonObject:
    if kinds[1:] == (...,):
        return {"type": "array", "items": _of(kinds[0], definitions)}
    items = [_of(one, definitions) for one in kinds]
    count = len(items)
    return {"type": "array", "prefixItems": items, "minItems": count, "maxItems": count}


def _record(kind: type[Any], definitions: dict[str, JsonObject]) -> JsonObject:
    """The schema of a record, with what its class and its fields are documented as."""
    hints = get_type_hints(kind, include_extras=True)
    said = _documented(kind)
    properties: dict[str, JsonObject] = {}
    required: list[str] = []
    for name, must in _fields(kind):
        key = RENAMED.get(name, name) if kind is EngineRecord else name
        properties[key] = _of(hints[name], definitions)
        if name in said:
            properties[key]["description"] = said[name]
        if must:
            required.append(key)
    if kind is EngineRecord:
        # Copied from the files for other tools, and not looked at when they are read.
        properties |= {view: {"description": "As `files` has it."} for view in VIEWS}
        properties["files"]["minItems"] = 1
    return {
        **({"description": said[""]} if "" in said else {}),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _fields(kind: type[Any]) -> Iterator[tuple[str, bool]]:
    """Each field that is in the file, and whether it must be there."""
    if is_dataclass(kind):
        for one in fields(kind):
            yield one.name, one.default is MISSING and one.default_factory is MISSING
        return
    left_out = {one.name for one in declarations(ExportRequest) if one.option.not_recorded}
    for attribute in attrs.fields(kind):
        if attribute.name not in left_out:
            yield attribute.name, attribute.default is attrs.NOTHING


def _documented(kind: type[Any]) -> dict[str, str]:
    """Field -> the text below it in the source, or the help of the option; "": of the class."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for before, text in zip([None, *tree.body], tree.body, strict=False):
            match before, text:
                case (
                    None | ast.AnnAssign(target=ast.Name()),
                    ast.Expr(value=ast.Constant(value=str(words))),
                ):
                    name = before.target.id if isinstance(before, ast.AnnAssign) else ""  # type: ignore[union-attr]
                    found[name] = " ".join(words.split())
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for one in get_args(hint)[1:]:
            if isinstance(one, Option):
                found[name] = one.help
    return found
