"""A command's result, for people as tables or for programs as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console


class ForPrograms(Protocol):
    """A result that is printed as JSON, too."""

    def to_json(self) -> str:
        """Its fields; a figure that is not finite is a text."""
        ...


Record = TypeVar("Record", bound=ForPrograms)


def show(
    record: Record, render: Callable[[Record, Console], None], as_json: bool, console: Console
) -> None:
    """Tables on the console, or JSON alone on standard output."""
    if as_json:
        print(record.to_json())  # noqa: T201
    else:
        render(record, console)
