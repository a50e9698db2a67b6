"""The kinds of results: which analysis makes each, which table shows it, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, ParamSpec

import typer
from rich.markup import escape

from benchmarks import (
    analysis,
    ceilings,
    layers,
    mixed_search,
    pictures,
    plots,
    residual_cost,
    scaling,
    serving_tables,
    sharing,
    tables,
    throughput,
)
from benchmarks.options import RESULTS, Out
from benchmarks.record import Event, read_events
from exporter.commands.compare import BENCHMARK
from exporter.disk.writing import write_whole
from exporter.errors import InputError
from exporter.progress import make_console

if TYPE_CHECKING:
    from rich.console import Console

WIDTH: Final = 200

P = ParamSpec("P")
Result = dict[str, Any]
Analyse = Callable[[Sequence[Event]], Result]
Show = Callable[[Mapping[str, Any], "Console"], None]

KINDS: Final[Mapping[str, tuple[Analyse, Show]]] = {
    BENCHMARK: (analysis.analyse, tables.suite),
    mixed_search.KIND: (mixed_search.analyse, tables.mixed_search),
    pictures.KIND: (pictures.analyse, pictures.show),
    residual_cost.KIND: (residual_cost.analyse, tables.residual),
    scaling.KIND: (scaling.analyse, tables.scaling),
    sharing.KIND: (sharing.analyse, serving_tables.sharing),
    throughput.KIND: (throughput.analyse, serving_tables.throughput),
    ceilings.GROUP: (ceilings.analyse, tables.ceilings_alone),
    layers.KIND: (layers.analyse, tables.layers),
}


def of(events: Sequence[Event]) -> Result:
    """The result of a raw file's events; a run of the suite is named by the suite."""
    name = events[0]["suite"]
    return KINDS[name if name in KINDS else BENCHMARK][0](events)


def show(found: Mapping[str, Any], console: Console) -> None:
    """Prints a result."""
    KINDS[found["kind"]][1](found, console)


def write_result(raw: Path, out: Path) -> Result:
    """Writes the result of a raw file and its pictures into a folder, and prints it."""
    found = of(read_events(raw))
    path = out / f"{raw.stem}.json"
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(found, indent=1) + "\n")
    console = wide_console()
    show(found, console)
    for picture in plots.draw(found, path.with_suffix("")):
        console.print(escape(str(picture)), soft_wrap=True)
    console.print(f"{escape(str(path))} (raw samples: {escape(str(raw))})", soft_wrap=True)
    return found


def with_result(measure: Callable[P, Path]) -> Callable[P, None]:
    """The command that measures into a raw file, `out/raw/NAME.jsonl`, and writes its result."""

    @wraps(measure)
    def command(*given: P.args, **named: P.kwargs) -> None:
        raw = measure(*given, **named)
        write_result(raw, raw.parent.parent)

    return command


def analyse_again(
    raw: Annotated[Path, typer.Argument(help="A raw/NAME.jsonl of an earlier run.")],
    out: Out = RESULTS,
) -> None:
    """Compute a result again from its raw samples; nothing is measured."""
    write_result(raw, out)


def show_kept(
    file: Annotated[Path, typer.Argument(help="A result: NAME.json.", metavar="RESULT")],
) -> None:
    """Print a result that was measured before."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{file} is not JSON ({error}); give a result of this suite") from None
    if not isinstance(content, dict) or content.get("kind") not in KINDS:
        raise InputError(f"{file} is no result of this suite; give one of benchmarks/results")
    show(content, wide_console())


def wide_console() -> Console:
    """Standard output, WIDTH columns wide where that is no terminal."""
    return make_console(pipe_width=WIDTH)
