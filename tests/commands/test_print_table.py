"""Whatever the terminal's width, no table cuts a word: a name that is cut names nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from exporter.artifact import Skipped
from exporter.builds.records import Manifest
from exporter.commands import cache, compare, doctor, explain, tables, trace_table, validate
from exporter.commands.print_table import print_table
from exporter.models.sources import define
from exporter.models.trace import trace
from exporter.models.variants import VARIANTS
from exporter.progress import Silent
from exporter.report import flat
from tests import manifests

WIDTHS = (140, 80, 60, 40)

Show = Callable[[Console], None]
"""Prints something on a console."""


def printed(show: Show, width: int) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=width, emoji=False))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return "\n".join(lines)


def compared(build: Manifest) -> compare.Comparison:
    return compare.compare(flat(build), flat(build))


def validated(build: Manifest) -> validate.Validated:
    replays = [validate.Replay(one.id, "intact", one.parity, "it broke") for one in build.engines]
    replays.append(validate.Replay("ort-cuda.fp16", "intact", Skipped("no GPU")))
    return validate.Validated(build.model.name, tuple(replays), ())


def tables_with_names() -> dict[str, tuple[Show, list[str]]]:
    """Everything that we print as a table, and what identifies its rows."""
    build, failed = manifests.resnet50(), manifests.failed()
    engines = [engine.id for engine in build.engines]
    failed_names = [engine.id for engine in failed.engines]
    failed_names += [engine.id for engine in failed.failed_engines]
    blocks = [block.name for engine in build.engines for block in engine.receipt.blocks]
    diagnosis = doctor.diagnose()
    network = trace(define("resnet20", "random", progress=Silent()))
    kept = cache.Cache(Path("/c"), True, (cache.Kept("ranges", "calibrated ranges", 3, 10**9),))
    return {
        "engines": (lambda c: tables.engines(build, c), engines),
        "failed engines": (lambda c: tables.engines(failed, c), failed_names),
        "models": (lambda c: tables.variants(VARIANTS, c), [*VARIANTS, "IMAGENET1K_V2"]),
        "explain": (lambda c: explain.render(explain.explain(build), c), [*engines, *blocks]),
        "compare": (lambda c: compare.render(compared(build), c), engines),
        "validate": (lambda c: validate.render(validated(build), c), [*engines, "ort-cuda.fp16"]),
        "drift": (lambda c: validate.render_drift(build, c), blocks),
        "doctor": (
            lambda c: doctor.render(diagnosis, c),
            [*(line.name for line in diagnosis.targets), "compute capability"],
        ),
        "trace": (lambda c: trace_table.render(network, c), [row.path for row in network.rows]),
        "cache": (lambda c: cache.render(kept, c), ["ranges"]),
    }


@pytest.mark.parametrize("width", WIDTHS)
def test_no_name_is_cut_at_any_width(width: int) -> None:
    for title, (show, names) in tables_with_names().items():
        text = printed(show, width)
        assert "…" not in text, f"{title} at {width}"
        lost = [name for name in names if name not in text]
        assert not lost, f"{title} at {width} lacks {lost}"


def test_a_row_that_does_not_fit_is_unfolded() -> None:
    table = Table("engine", "verdict", "note")
    table.add_row("tensorrt-rtx:sm89.int8", "[green]passed[/]", "")
    text = printed(lambda console: print_table(table, console), 30)
    assert text.splitlines() == ["tensorrt-rtx:sm89.int8", "  verdict: passed".ljust(30)]


def test_a_column_that_lacks_little_is_not_wrapped_for_one_that_lacks_much() -> None:
    table = Table("engine", "size", "note")
    table.add_row("ort-cpu.fp32", "21.7 MB", "a word and another one, " * 9)
    text = printed(lambda console: print_table(table, console), 60)
    assert "│ ort-cpu.fp32 │ 21.7 MB │ a word and another" in text


def test_a_table_of_markup_as_text_is_printed_as_it_is() -> None:
    table = Table("module")
    table.add_row("[/x]:module:")
    for width in WIDTHS:
        text = printed(lambda console: print_table(table, console, markup=False), width)
        assert "[/x]:module:" in text
