"""Where a command prints: results to standard output, progress and errors to standard error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from exporter.progress import PIPE_WIDTH, Progress, Silent, Terminal, make_console, styled

if TYPE_CHECKING:
    from rich.console import Console


def finish(failures: Sequence[str], last: str = "") -> None:
    """Prints each failure and the last words, and ends the command where something failed.

    Raises:
        typer.Exit: with code 1, where there are failures.
    """
    for failure in failures:
        say_error(failure)
    if last:
        results().print(last, markup=False, highlight=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def say_error(text: str) -> None:
    """One line."""
    line = " ".join(text.split())
    make_console(stderr=True).print(styled(("error:", "bold red"), f" {line}"), soft_wrap=True)


def results() -> Console:
    """Standard output: a pipe or a log has no width, so wide enough for every table of ours."""
    return make_console(pipe_width=PIPE_WIDTH)


def progress_of(quiet: bool) -> Progress:
    """What a command shows while it works."""
    return Silent() if quiet else Terminal(make_console(stderr=True))
