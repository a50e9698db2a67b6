"""What the console script ends with, and what each command's help says of it."""

from __future__ import annotations

from typing import Final

from exporter.errors import ExporterError

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C or SIGTERM, as shells have it."""
EXITS: Final = (
    "Exit codes: 0 done; 1 something failed (an engine, a gate, a limit, the disk), and everything "
    "else was finished; 2 the request or an input cannot be used; 130 interrupted."
)
"""What the console script ends with, as each command's help says."""


class KeptError(ExporterError):
    """An export was interrupted, and what it had proved is kept; the message says where."""

    exit_code = INTERRUPTED


def teaching(*examples: str) -> str:
    """What ends a command's help; a paragraph is a line there."""
    return "\n\n".join(("Examples:", *(f"  {example}" for example in examples), EXITS))
