"""How long work shows that it lives: a bar on a terminal, a line a stage elsewhere, or silence.

Stages take a `Progress` and never print. `cli.py` chooses which one. `Clock` keeps how long each
stage took: the manifest's `timings`.
"""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Advance = Callable[[int], None]
PIPE_WIDTH: Final = 140
"""Wide enough for every table of ours, where no terminal says how wide it is."""


class Progress(Protocol):
    """What a stage may tell the user while it works."""

    def stage(self, title: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Work of `total` steps (None: unknown); call the yielded function to advance."""
        ...

    def detail(self, text: str) -> None:
        """What the running stage is at, a few words; it is shown while the stage runs."""
        ...

    def note(self, text: str) -> None:
        """Something that the user must read, a paragraph."""
        ...


class Silent:
    """Shows nothing; keeps the notes for whoever asks."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Advance]:  # noqa: ARG002
        yield lambda _steps: None

    def detail(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


class Keeping:
    """Shows what another one shows, and keeps the notes."""

    def __init__(self, shown: Progress) -> None:
        self.notes: list[str] = []
        self._shown = shown
        self.stage = shown.stage
        self.detail = shown.detail

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._shown.note(text)


class Terminal:
    """A bar while a stage runs (on a terminal), and a line with its duration when it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._describe: Callable[[str], None] = lambda _text: None

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Advance]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Bars

        counting = (BarColumn(), MofNCompleteColumn()) if total else ()
        start = time.perf_counter()
        described = TextColumn("{task.description}", markup=False)
        columns = (SpinnerColumn(), described, *counting)
        bars = Bars(
            *columns,
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        with bars:
            task = bars.add_task(title, total=total)
            outer = self._describe
            self._describe = lambda text: bars.update(task, description=text)
            try:
                yield lambda steps: bars.advance(task, steps)
            finally:
                self._describe = outer
        took = f"{time.perf_counter() - start:.1f} s"
        self.console.print(styled(f"  {title}  ", (took, "dim")))

    def detail(self, text: str) -> None:
        self._describe(text)

    def note(self, text: str) -> None:
        self.console.print(styled(("note:", "yellow"), f" {text}"))


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at it; a service's streams may be closed, which Python makes None."""
    return stream is not None and stream.isatty()


def make_console(*, stderr: bool = False, pipe_width: int | None = None) -> Console:
    """Standard output or error, `pipe_width` wide where that is a pipe or a log, not a terminal."""
    from rich.console import Console

    width = None if is_terminal(sys.stderr if stderr else sys.stdout) else pipe_width
    # A name may hold `:module:`, which is no emoji; in a notebook, too, this is a stream.
    return Console(stderr=stderr, emoji=False, width=width, force_jupyter=False)


def text_console() -> tuple[Console, io.StringIO]:
    """A console that writes into a text, as wide as the terminal, if there is one."""
    from rich.console import Console

    text = io.StringIO()
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else PIPE_WIDTH
    # In a notebook rich would show what is printed instead of writing it.
    plain = Console(file=text, width=width, emoji=False, color_system=None, force_jupyter=False)
    return plain, text


def styled(*parts: str | tuple[str, str]) -> Text:
    """Text, parts of it with a style; what looks like markup in a name stays what it is."""
    from rich.text import Text

    return Text.assemble(*parts)


class Clock:
    """How long each stage took, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.seconds[stage] = round(spent, 3)
