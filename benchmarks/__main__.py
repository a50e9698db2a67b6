"""The suite's command line: which function is which command."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import typer

from benchmarks import (
    ceilings,
    layers,
    mixed_search,
    page,
    pictures,
    residual_cost,
    results,
    running,
    scaling,
    sharing,
    throughput,
)
from benchmarks.command_line import finish
from benchmarks.results import with_result

COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "run": running.command,
    "residual": with_result(residual_cost.command),
    "scaling": with_result(scaling.command),
    "ceilings": with_result(ceilings.command),
    "throughput": with_result(throughput.command),
    "sharing": with_result(sharing.command),
    "pictures": with_result(pictures.command),
    "mixed-search": with_result(mixed_search.command),
    "layers": with_result(layers.command),
    "analyse": results.analyse_again,
    "show": results.show_kept,
    "page": page.command,
}

app = typer.Typer(
    name="benchmarks",
    help="Measure this compiler's engines against what a user would pick instead, in one run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; errors become one line and an exit code, as in `exporter`."""
    finish(
        app,
        arguments,
        hint="(python -m benchmarks --help)",
        interrupted="interrupted; what was measured so far is in a file named *.partial",
    )


if __name__ == "__main__":
    os.environ.setdefault("TORCH_LOGS", "-all")
    main()
