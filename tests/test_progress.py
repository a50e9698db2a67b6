"""What a user sees of long work, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from exporter.progress import Terminal


def shown(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    progress = Terminal(console)
    progress.detail("before any stage")
    with progress.stage("build it", 2) as advance:
        advance(1)
        progress.detail("build it: tactics")
    progress.detail("after the stage")
    progress.note("mind this")
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_a_file_gets_a_line_a_stage_and_the_notes() -> None:
    text = shown(terminal=False)
    assert [line.split()[0] for line in text.splitlines()] == ["build", "note:"]


def test_a_terminal_shows_what_the_stage_is_at_and_nothing_outside_of_it() -> None:
    text = shown(terminal=True)
    assert "build it: tactics" in text
    assert "before any stage" not in text
    assert "after the stage" not in text


def test_a_stage_that_fails_shows_no_duration() -> None:
    console = Console(file=io.StringIO(), width=80)
    progress = Terminal(console)
    with pytest.raises(ValueError, match="no"), progress.stage("build it"):
        raise ValueError("no")
    stream = console.file
    assert isinstance(stream, io.StringIO)
    assert stream.getvalue() == ""
