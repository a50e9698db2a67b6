"""The options that several commands of the suite share, and what their texts mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from exporter.errors import InputError
from exporter.progress import Progress, Terminal, make_console

RESULTS: Final = Path("benchmarks/results")
Out = Annotated[
    Path, typer.Option(help="Folder of results: NAME.json, and raw/NAME.jsonl with all samples.")
]
Cache = Annotated[Path, typer.Option(help="Where the engines are kept from run to run.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of every engine (default: the cores granted).")
]
ImageSize = Annotated[
    int | None, typer.Option(min=32, help="Side of the input instead of the model's own.")
]
ROUNDS_HELP = "Interleaved rounds; more of them narrow the intervals."
LIVES_HELP = "How often each process is started anew."
Rounds = Annotated[int, typer.Option(min=5, help=ROUNDS_HELP)]
Lives = Annotated[int, typer.Option(min=1, help=LIVES_HELP)]
Seed = Annotated[int, typer.Option(help="Seeds weights, images and the order within the rounds.")]
BuildFolder = Annotated[
    Path, typer.Argument(help="A build that `exporter export` measured here.", metavar="BUILD")
]
Cores = Annotated[
    int | None, typer.Option(min=1, help="Cores to use (default: the cores granted).")
]


def show_progress() -> Progress:
    """On the terminal's standard error."""
    return Terminal(make_console(stderr=True))


def words(text: str) -> tuple[str, ...]:
    """The words between the commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def sizes(text: str) -> tuple[int, ...]:
    """Positive numbers between commas, each once.

    Raises:
        InputError: something else is there, or nothing.
    """
    given = words(text)
    if not given or not all(word.isdigit() and int(word) > 0 for word in given):
        raise InputError(f"{text!r}: give positive numbers, as in 1,8,32")
    return tuple(dict.fromkeys(map(int, given)))
