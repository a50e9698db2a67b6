"""What a user sees of long work, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from exporter.progress import Terminal, make_console, styled


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


NAMES = ["t[1].npz", "a[/b].onnx", "[bold]m[/]", "runs/:module:v2", "c\\[d]", "[link=x]y"]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(name: str, terminal: bool) -> None:
    stream = io.StringIO()
    progress = Terminal(
        Console(file=stream, force_terminal=terminal, width=80, emoji=False, color_system=None)
    )
    with progress.stage(f"define {name}", 1):
        progress.detail(f"reading {name}")
        progress.note(f"{name} is read")
    text = stream.getvalue()
    assert f"define {name}" in text
    assert f"note: {name} is read" in text
    assert (f"reading {name}" in text) is terminal


def test_a_console_of_ours_knows_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    make_console(pipe_width=30).print("a:module:b " * 3, markup=False)
    make_console(stderr=True).print(styled(("error:", "bold red"), " [/x] :warning:"))
    out, err = capsys.readouterr()
    assert out.split() == ["a:module:b"] * 3
    assert out.count("\n") == 2
    assert err == "error: [/x] :warning:\n"


def test_every_console_is_one_of_ours() -> None:
    root = Path(__file__).parents[1]
    makers = [
        path.name
        for folder in ("exporter", "benchmarks")
        for path in (root / folder).rglob("*.py")
        if re.search(r"\bConsole\(", path.read_text(encoding="utf-8"))
    ]
    assert makers == ["progress.py"]
