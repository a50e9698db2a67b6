"""An option, declared once, at a field of a request: everything else is made from that.

A request is a frozen attrs class with fields `name: Annotated[type, Option(help=...)] = default`.
From the declaration come the command line (`commands/options.py`), the line that gives a request
again (`command_line`), what the manifest records, and the refusal of an option without a use.
"""

from __future__ import annotations

import inspect
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from exporter.builds import converters
from exporter.disk.names import check_name
from exporter.errors import UsageError

REQUIRED: Final = inspect.Parameter.empty
"""The default of what must be given."""

Request = TypeVar("Request")

_WANTED: Final[Mapping[Any, str]] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
}


class Values(StrEnum):
    """Names that a value is one of, or may be; a shell completes them."""

    MODELS = "models"
    BUILDS = "builds"
    TARGETS = "targets"
    FORMATS = "formats"


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
    values: Values | None = None
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
    def may_be_pair(self) -> bool:
        """It is typed as one text: a number, or two as in 480x640; its converter reads it."""
        return any(get_origin(kind) is tuple for kind in self._kinds)

    @property
    def _kinds(self) -> tuple[Any, ...]:
        is_union = get_origin(self.kind) in (Union, UnionType)
        return get_args(self.kind) if is_union else ()

    @property
    def is_nested(self) -> bool:
        """It holds texts under a target and a key."""
        return get_origin(self.kind) is Mapping

    def read(self, given: Any) -> Any:
        """The value of what was typed: settings are a text each, all others done.

        A list of numbers is left as one text: the field's converter reads it.

        Raises:
            UsageError: the text does not have the form.
        """
        if self.is_nested:
            return self._settings(given or ())
        if self.item is None:
            return given
        words = converters.words(given)
        if given and not words:
            raise UsageError(f"{self.flag} {given!r}: give at least one, or leave it out")
        # Numbers have their form from the field's converter.
        return words if issubclass(self.item, str) else given

    def check(self, value: Any) -> None:
        """Refuses what the command line's parser refuses, in a value that a program gave.

        Raises:
            UsageError: it is of another type, below the minimum, or a name that is not UTF-8.
        """
        if isinstance(value, str | Path):
            check_name(value.absolute() if isinstance(value, Path) else value)
        kinds = get_args(self.kind) if get_origin(self.kind) in (Union, UnionType) else (self.kind,)
        wanted = [kind for kind in kinds if kind in _WANTED]
        # A list, a path or an enum has its type from its converter.
        if not wanted or self.may_be_pair or (value is None and type(None) in kinds):
            return
        least = self.option.minimum
        fits = any(_is_a(value, kind) for kind in wanted)
        if not fits or (least is not None and value < least):
            expected = " or ".join(_WANTED[kind] for kind in wanted)
            of_at_least = f" of at least {least}" if least is not None else ""
            raise UsageError(f"{self.name} is {value!r}: give {expected}{of_at_least}")

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
        if isinstance(value, tuple):
            return ("x" if self.may_be_pair else ",").join(map(str, value))
        return str(value)

    def _settings(self, entries: Iterable[str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for entry in entries:
            path, equals, value = entry.partition("=")
            target, dot, key = path.partition(".")
            if not (equals and dot and target and key):
                raise UsageError(f"{self.flag} {entry!r}: give {self.option.metavar}")
            found.setdefault(target, {})[key] = value
        return found


def _is_a(value: Any, kind: Any) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def declarations(request: type) -> tuple[Declaration, ...]:
    """The options of a request, in its fields' order."""
    hints = get_type_hints(request, include_extras=True)
    return tuple(
        Declaration.of(field.name, hints[field.name], _default(field))
        for field in attrs.fields(request)
    )


def _default(field: attrs.Attribute[Any]) -> Any:
    factory = getattr(field.default, "factory", None)
    if factory is not None:
        return factory()
    return REQUIRED if field.default is attrs.NOTHING else field.default


def refuse_unusable(request: Any) -> None:
    """Refuses a request with a value that the command line's parser would not have let through.

    Not in the constructor: a build's record says what came of the request (`samples` may be fewer
    than can be asked for).

    Raises:
        UsageError: see `Declaration.check`.
    """
    for declared in declarations(type(request)):
        declared.check(getattr(request, declared.name))


def narrowed(kind: type[Request], wider: Any) -> Request:
    """The request in an object that has its fields and others."""
    return kind(**{one.name: getattr(wider, one.name) for one in declarations(kind)})


def arguments(request: Any) -> dict[str, Any]:
    """Every option by its name, but what the request is about: the arguments of a Python call."""
    return {
        declared.name: getattr(request, declared.name)
        for declared in declarations(type(request))
        if not declared.option.positional
    }


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


def keywords(request: Any, but: Container[str] = ()) -> list[str]:
    """The arguments that give a request again in a program: "precisions=['int8']"."""
    return [
        f"{declared.name}={_literal(value)!r}"
        for declared, value in given(request)
        if not declared.option.not_recorded and declared.name not in but
    ]


def _literal(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_literal(item) for item in value]
    return str(value) if isinstance(value, StrEnum | Path) else value


def first_unused(request: Any, used: Container[StrEnum]) -> Declaration | None:
    """The first option given that concerns none of what is `used`."""
    for declared, _ in given(request):
        if declared.option.concerns is not None and declared.option.concerns not in used:
            return declared
    return None
