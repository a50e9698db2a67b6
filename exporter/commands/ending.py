"""How a command ends: whatever went wrong is one line on standard error, and a code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from exporter.commands.exits import INTERRUPTED
from exporter.commands.terminal import say_error
from exporter.errors import ExporterError, install_command


def ended(run: Callable[[], Any], name: str) -> int:
    """Runs a command of the program `name`; the code with which its process should end."""
    interrupted = "interrupted; nothing half-written was left behind"
    try:
        code = run()
        if code == INTERRUPTED:  # Typer makes a code of Ctrl-C
            say_error(interrupted)
    except (typer.Abort, KeyboardInterrupt):
        say_error(interrupted)
        code = INTERRUPTED
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command_path = context.command_path if context else name
        say_error(f"{error.format_message()} ({command_path} --help tells more)")
        code = error.exit_code
    except ExporterError as error:
        say_error(str(error))
        code = error.exit_code
    except ImportError as error:
        library = (error.name or "a library").partition(".")[0]
        if library == name:
            raise  # not a library that could be installed
        absent = isinstance(error, ModuleNotFoundError)
        say_error(
            f"this needs {library}, which {'is not installed' if absent else f'fails: {error}'}; "
            f"run (with gpu for cpu where an NVIDIA GPU is): {install_command('cpu')}"
        )
        code = 2
    except OSError as error:
        # A full disk or a vanished file, wherever it happens.
        say_error(f"{error.filename or 'input/output'}: {error.strerror or error}")
        code = 1
    return int(code or 0)
