"""Protobuf's text format, as far as Triton's `config.pbtxt` needs it.

    str -> "quoted",  bool -> true,  Word("KIND_CPU") -> KIND_CPU,  mapping -> { ... },
    sequence -> the field repeated; a sequence of plain values -> [ ... ]

https://protobuf.dev/reference/protobuf/textformat-spec/
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Scalar: TypeAlias = str | int | bool
Value: TypeAlias = "Scalar | Message | Sequence[Scalar] | Sequence[Message]"
Message: TypeAlias = Mapping[str, Value]


class Word(str):
    """A value without quotes: the name of an enum's constant."""

    __slots__ = ()


def text_format(message: Message, indent: int = 0) -> str:
    """The message as text, fields in the order given."""
    return "".join(_field(name, value, indent) for name, value in message.items())


def parameters(values: Mapping[str, str]) -> list[Message]:
    """A `map<string, ModelParameter>` field."""
    return [{"key": key, "value": {"string_value": value}} for key, value in values.items()]


def _field(name: str, value: Value, indent: int) -> str:
    margin = "  " * indent
    if isinstance(value, Mapping):
        return f"{margin}{name} {{\n{text_format(value, indent + 1)}{margin}}}\n"
    if isinstance(value, Scalar):
        return f"{margin}{name}: {_scalar(value)}\n"
    if any(isinstance(item, Mapping) for item in value):
        return "".join(_field(name, item, indent) for item in value)
    return f"{margin}{name}: [ {', '.join(map(_scalar, value))} ]\n" if value else ""


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Word) or not isinstance(value, str):
        return str(value)
    return json.dumps(value, ensure_ascii=True)  # its escapes are C's, which the format takes
