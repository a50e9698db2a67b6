"""Protobuf's text format, as far as Triton's `config.pbtxt` needs it.

    str -> "quoted",  bool -> true,  Word("KIND_CPU") -> KIND_CPU,  dict -> { ... },
    list -> the field repeated; a list of plain values -> [ ... ]

https://protobuf.dev/reference/protobuf/textformat-spec/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class Word(str):
    """A value without quotes: the name of an enum's constant."""

    __slots__ = ()


def text_format(message: Mapping[str, Any], indent: int = 0) -> str:
    """The message as text, fields in the order given."""
    margin = "  " * indent
    lines = []
    for name, value in message.items():
        if isinstance(value, list) and value and not isinstance(value[0], Mapping):
            lines.append(f"{margin}{name}: [ {', '.join(map(_scalar, value))} ]\n")
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                lines.append(f"{margin}{name} {{\n{text_format(item, indent + 1)}{margin}}}\n")
            else:
                lines.append(f"{margin}{name}: {_scalar(item)}\n")
    return "".join(lines)


def parameters(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """A `map<string, ModelParameter>` field."""
    return [{"key": key, "value": {"string_value": value}} for key, value in values.items()]


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Word) or not isinstance(value, str):
        return str(value)
    return json.dumps(value, ensure_ascii=True)  # its escapes are C's, which the format takes
