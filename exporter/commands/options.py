"""Commands from functions: each declared option becomes one of Typer's, and its text a value."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import typer

from exporter.builds.option import REQUIRED, Declaration, Option, declarations
from exporter.commands.completion import completer

Request = TypeVar("Request")

Quiet = Annotated[bool, Option(flags=("--quiet", "-q"), help="Print the result only.")]
AsJson = Annotated[bool, Option(flags=("--json",), help="Print JSON instead of a table.")]


def command(
    app: typer.Typer, epilog: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function a command of `app`, named and described as it is; `epilog` ends its help.

    A parameter is an option (`Annotated[type, Option(...)]`) or a whole request of them.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
        requests = {name: hints[name] for name in parameters if attrs.has(hints[name])}
        single = {
            name: Declaration.of(name, hints[name], parameter.default)
            for name, parameter in parameters.items()
            if name not in requests
        }

        def run(**typed: Any) -> None:
            values = {name: declared.read(typed[name]) for name, declared in single.items()}
            made = {name: request_of(kind, typed) for name, kind in requests.items()}
            function(**made, **values)

        options = [
            option
            for name in parameters
            for option in (declarations(requests[name]) if name in requests else [single[name]])
        ]
        _sign(run, options)
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        app.command(epilog=epilog)(run)
        return function

    return register


def request_of(kind: type[Request], typed: Mapping[str, Any]) -> Request:
    """The request that was typed: what Typer made of each of its options, by name.

    Raises:
        UsageError: a list or a setting does not have its form.
    """
    return kind(**{one.name: one.read(typed[one.name]) for one in declarations(kind)})


def _sign(function: Callable[..., None], options: Iterable[Declaration]) -> None:
    """Gives a function the signature that Typer reads its parameters from."""
    parameters = [
        inspect.Parameter(
            declared.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_typed_default(declared),
            annotation=Annotated[_typed(declared), _typer_option(declared)],
        )
        for declared in options
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in parameters}


def _typed(declared: Declaration) -> Any:
    """The type that Typer reads: a list is one text, between commas."""
    if declared.item is not None:
        return str
    if declared.is_nested:
        return list[str] | None
    if declared.may_be_pair:
        return str | None
    if get_origin(declared.kind) in (Union, UnionType):
        # A program may give a mapping for a file's path; on the command line it is the path.
        typed = [one for one in get_args(declared.kind) if get_origin(one) is not Mapping]
        return functools.reduce(operator.or_, typed)
    return declared.kind


def _typed_default(declared: Declaration) -> Any:
    if declared.is_nested:
        return None
    if declared.item is not None and declared.default is not REQUIRED:
        return declared.text(declared.default)
    return declared.default


def _typer_option(declared: Declaration) -> Any:
    option = declared.option
    complete = completer(declared)
    if option.positional:
        return typer.Argument(help=option.help, metavar=option.metavar, autocompletion=complete)
    flags = option.flags or (declared.flag,)
    if declared.kind is bool and declared.default is True:
        flags = (f"{declared.flag}/{declared.negative_flag}", *flags[1:])
    return typer.Option(
        *flags,
        help=option.help,
        metavar=option.metavar,
        rich_help_panel=option.panel,
        min=option.minimum,
        case_sensitive=False,
        autocompletion=complete,
    )
