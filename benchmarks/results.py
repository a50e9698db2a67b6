"""The kinds of results: which analysis makes each, and which table shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from benchmarks import (
    analysis,
    ceilings,
    layers,
    mixed_search,
    pictures,
    residual_cost,
    scaling,
    serving_tables,
    sharing,
    tables,
    throughput,
)
from benchmarks.record import Event
from exporter.commands.compare import BENCHMARK

if TYPE_CHECKING:
    from rich.console import Console

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
