"""An option, declared once, at a field of a request: everything else is made from that.

A request is a frozen dataclass with fields `name: Annotated[type, Option(help=...)] = default`.
From the declaration come the command line (`commands/options.py`), the line that gives a request
again (`command_line`), what the manifest records, and the refusal of an option without a use.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from exporter.errors import UsageError, unknown_name

REQUIRED: Final = inspect.Parameter.empty
"""The default of what must be given."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """How a value is given on the command line, and when it means something."""

    help: str
    flags: tuple[str, ...] = ()
    """Where they are not made from the name: ("--quiet", "-q")."""
    positional: bool = False
    """An argument: it is given without a flag."""
    metavar: str | None = None
    panel: str | None = None
    """The part of the help that lists it; None: with those of no part."""
    minimum: int | None = None
    concerns: StrEnum | None = None
    """What it is about; where the request has none of that, it is refused."""
    not_recorded: str = ""
    """Why the manifest and the line that gives a request again leave it out; "": they do not."""


@dataclass(frozen=True)
class Declaration:
    """An option with the name, the type and the default that it was declared with."""

    name: str
    kind: Any
    default: Any
    option: Option

    @classmethod
    def of(cls, name: str, annotation: Any, default: Any) -> Declaration:
        """From `Annotated[type, Option(...)]`."""
        kind, *metadata = get_args(annotation) if get_origin(annotation) is Annotated else (None,)
        found = [one for one in metadata if isinstance(one, Option)]
        if len(found) != 1:
            raise TypeError(f"{name}: declare it as Annotated[type, Option(help=...)]")
        return cls(name, kind, default, found[0])

    @property
    def flag(self) -> str:
        """As it is typed: "--calibration-samples"; an argument: its name in the help."""
        if self.option.positional:
            return self.option.metavar or self.name.upper()
        return self.option.flags[0] if self.option.flags else f"--{self.name.replace('_', '-')}"

    @property
    def negative_flag(self) -> str:
        """What switches off a flag that is on by default: "--no-measure"."""
        return f"--no-{self.flag.removeprefix('--')}"

    @property
    def item(self) -> Any:
        """The type of a list's items; None: it is no list."""
        return get_args(self.kind)[0] if get_origin(self.kind) is tuple else None

    @property
    def is_nested(self) -> bool:
        """It holds texts under a target and a key."""
        return get_origin(self.kind) is Mapping

    def read(self, given: Any) -> Any:
        """The value of what was typed: lists are one text, settings one each, all others done.

        Raises:
            UsageError: the text does not have the form.
        """
        if self.is_nested:
            return self._settings(given or ())
        if self.item is None:
            return given
        words = [word.strip() for word in given.split(",") if word.strip()]
        if not words and given:
            raise UsageError(f"{self.flag} {given!r}: give at least one, or leave it out")
        return tuple(dict.fromkeys(self._item(word, given) for word in words))

    def words(self, value: Any) -> list[str]:
        """What is typed to give the value; `read` backwards."""
        if self.option.positional:
            return [str(value)]
        if isinstance(value, bool):
            return [self.flag if value else self.negative_flag]
        if self.is_nested:
            return [
                word
                for target, settings in value.items()
                for key, text in settings.items()
                for word in (self.flag, f"{target}.{key}={text}")
            ]
        return [self.flag, self.text(value)]

    def text(self, value: Any) -> str:
        """The value as one word."""
        return ",".join(map(str, value)) if self.item is not None else str(value)

    def _item(self, word: str, given: str) -> Any:
        if self.item is int:
            if not (word.isdecimal() and int(word) > 0):
                raise UsageError(f"{self.flag} {given!r}: give positive numbers, as in 1,8,32")
            return int(word)
        if issubclass(self.item, StrEnum):
            if word not in set(self.item):
                raise unknown_name(self.item.__name__.lower(), word, list(self.item))
            return self.item(word)
        return word

    def _settings(self, entries: Iterable[str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for entry in entries:
            path, equals, value = entry.partition("=")
            target, dot, key = path.partition(".")
            if not (equals and dot and target and key):
                raise UsageError(f"{self.flag} {entry!r}: give {self.option.metavar}")
            found.setdefault(target, {})[key] = value
        return found


def declarations(request: type) -> tuple[Declaration, ...]:
    """The options of a request, in its fields' order."""
    hints = get_type_hints(request, include_extras=True)
    return tuple(
        Declaration.of(field.name, hints[field.name], _default(field))
        for field in dataclasses.fields(request)
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED if field.default is dataclasses.MISSING else field.default


def given(request: Any) -> Iterator[tuple[Declaration, Any]]:
    """Each option that is not at its default, with its value."""
    for declared in declarations(type(request)):
        value = getattr(request, declared.name)
        if value != declared.default:
            yield declared, value


def command_line(request: Any) -> list[str]:
    """The words after the command's name that give a request again."""
    found = []
    for declared in declarations(type(request)):
        value = getattr(request, declared.name)
        # What the command is about is named even where it is the default.
        if declared.option.positional or value != declared.default:
            found += [] if declared.option.not_recorded else declared.words(value)
    return found


def first_unused(request: Any, used: Container[StrEnum]) -> Declaration | None:
    """The first option given that concerns none of what is `used`."""
    for declared, _ in given(request):
        if declared.option.concerns is not None and declared.option.concerns not in used:
            return declared
    return None
