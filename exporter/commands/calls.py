"""Functions of the Python API from requests: typed, described and checked by the declarations.

A request's constructor gives a function its keyword arguments (type checkers follow the ParamSpec),
its `help()` and the names that a misspelt one is near to. What a program may give and a command
line may not (a module, a progress) stands here.
"""

from __future__ import annotations

import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs
from attrs import frozen

from exporter.builds.benchmark_request import MeasuringRequest
from exporter.builds.capacity_request import CapacityRequest
from exporter.builds.dataset_request import ClassifyRequest, EvaluateRequest
from exporter.builds.gate_request import GateRequest
from exporter.builds.option import Declaration, declarations
from exporter.builds.request import ExportRequest, ValidateRequest
from exporter.builds.sweep_request import SweepRequest
from exporter.errors import UsageError, unknown_name
from exporter.pack.request import PackRequest
from exporter.progress import Keeping, Progress, Silent, Terminal, is_terminal, make_console

if TYPE_CHECKING:
    import torch

    from exporter.models.live_module import Examples

Shown = Progress | Literal["auto"] | bool

S = TypeVar("S")
F = TypeVar("F")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

OPTIONS: Final = "{options}"
"""Stands in a docstring for the options of the request."""


@frozen(kw_only=True)
class ExportCall(ExportRequest):
    """What `exporter.export` takes."""

    example: Examples | None = None
    progress: Shown = "auto"


@frozen(kw_only=True)
class ValidateCall(ValidateRequest):
    """What `Build.validate` takes."""

    progress: Shown = "auto"


@frozen(kw_only=True)
class GateCall(GateRequest):
    """What `Build.gate` takes."""

    progress: Shown = "auto"


@frozen(kw_only=True)
class CapacityCall(CapacityRequest):
    """What `Build.capacity` takes."""

    progress: Shown = "auto"


@frozen(kw_only=True)
class EvaluateCall(EvaluateRequest):
    """What `Build.evaluate` takes."""

    progress: Shown = "auto"


@frozen(kw_only=True)
class ClassifyCall(ClassifyRequest):
    """What `exporter.classify` takes."""

    progress: Shown = "auto"


@frozen(kw_only=True)
class SweepCall(SweepRequest):
    """What `exporter.sweep` takes."""

    progress: Shown = "auto"


@frozen(kw_only=True)
class BenchmarkCall(MeasuringRequest):
    """What `Build.benchmark` takes."""

    model: str | torch.nn.Module | None = None
    progress: Shown = "auto"


@frozen
class PackCall(PackRequest):
    """What `Build.pack` takes."""

    progress: Shown = attrs.field(default="auto", kw_only=True)


def shown(progress: Shown) -> Keeping:
    """Where progress goes; the notes are kept.

    Raises:
        UsageError: nothing that is known.
    """
    if isinstance(progress, str):
        if progress != "auto":
            raise UsageError(f"progress is {progress!r}; give 'auto', True, False or a Progress")
        progress = is_terminal(sys.stderr)
    if isinstance(progress, bool):
        return Keeping(Terminal(make_console(stderr=True)) if progress else Silent())
    return Keeping(progress)


def takes(
    constructor: Callable[Concatenate[F, P], R],
) -> Callable[[Callable[[S, Callable[[F], R]], T]], Callable[Concatenate[S, P], T]]:
    """Gives a function the keyword arguments of a request, all but the request's first.

    The function gets what makes the request, once it is told that first one. (D417 is waived where
    it is used: the parameter that holds that is of the inside.)
    """

    def decorate(function: Callable[[S, Callable[[F], R]], T]) -> Callable[Concatenate[S, P], T]:
        signature = _signature(function, constructor)
        known = list(signature.parameters)[1:]

        @functools.wraps(function)
        def call(subject: S, /, *args: P.args, **options: P.kwargs) -> T:
            for name in options:
                if name not in known:
                    problem = unknown_name("option", name, known)
                    raise TypeError(f"{function.__name__}(): {problem}")
            signature.bind(subject, *args, **options)
            return function(subject, lambda first: constructor(first, *args, **options))

        call.__signature__ = signature  # type: ignore[attr-defined]
        described = "\n".join(_described(constructor))
        call.__doc__ = inspect.cleandoc(function.__doc__ or "").replace(OPTIONS, described.lstrip())
        return call

    return decorate


def _declared(constructor: Callable[..., Any]) -> dict[str, Declaration]:
    request = constructor.__mro__[1]  # type: ignore[attr-defined] # a call adds to a request
    return {one.name: one for one in declarations(request) if not one.option.positional}


def _signature(function: Callable[..., Any], constructor: Callable[..., Any]) -> inspect.Signature:
    declared = _declared(constructor)
    subject, *_ = inspect.signature(function).parameters.values()
    parameters = [subject.replace(kind=inspect.Parameter.POSITIONAL_ONLY)]
    fields = attrs.fields_dict(constructor)  # type: ignore[arg-type]
    for name, parameter in list(inspect.signature(constructor).parameters.items())[1:]:
        if name in declared:
            parameter = parameter.replace(
                default=_shown_default(declared[name].default),
                annotation=_taken(declared[name], fields[name].converter),
            )
        parameters.append(parameter)
    returned = inspect.signature(function).return_annotation
    return inspect.Signature(parameters, return_annotation=returned)


def _shown_default(default: Any) -> Any:
    """An enum's member as it is typed."""
    return str(default) if isinstance(default, StrEnum) else default


def _taken(declared: Declaration, converter: Any) -> Any:
    """What may be given: what the converter takes, else the option's own type."""
    if converter is not None:
        return get_type_hints(converter)["given"]
    kind = declared.kind
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _described(constructor: Callable[..., Any]) -> Iterator[str]:
    """An entry of a docstring's arguments for each option."""
    for declared in _declared(constructor).values():
        yield textwrap.fill(
            f"{declared.name}: {declared.option.help}",
            96,
            initial_indent="    ",
            subsequent_indent="        ",
            break_on_hyphens=False,
        )
