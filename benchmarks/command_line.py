"""How the commands of this folder end: one line for an error, and the exporter's exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from exporter.errors import ExporterError
from exporter.progress import make_console, styled


def finish(
    app: typer.Typer,
    arguments: Sequence[str] | None = None,
    *,
    hint: str = "",
    interrupted: str = "interrupted",
) -> None:
    """Runs a command (of `sys.argv`, where no arguments are given) and exits; no traceback."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
        _say_error(interrupted)
    except typer.TyperException as error:
        _say_error(f"{error.format_message()} {hint}")
        code = error.exit_code
    except ExporterError as error:
        _say_error(str(error))
        code = error.exit_code
    sys.exit(code or 0)


def finish_alone(command: Callable[..., None], *, hint: str = "") -> None:
    """Runs the only command of a module, and exits."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    finish(app, hint=hint)


def _say_error(text: str) -> None:
    line = " ".join(text.split())
    make_console(stderr=True).print(styled(("error:", "bold red"), f" {line}"), soft_wrap=True)
