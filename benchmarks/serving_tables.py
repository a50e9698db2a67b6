"""Results of processes under load on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from benchmarks.tables import headline, missing_and_busy

if TYPE_CHECKING:
    from rich.console import Console


def sharing(found: Mapping[str, Any], console: Console) -> None:
    """A row for each case: its images a second, and what part of the fair share they are."""
    console.print(headline(found))
    table = Table(title=escape(f"{found['model']}, {found['cores']} cores"), title_justify="left")
    table.add_column("engine")
    table.add_column("processes x threads")
    for name in ("images/s", "of the fair share (95 %)", "of who got least"):
        table.add_column(name, justify="right")
    for row in found["cases"]:
        low, high = row["share_ci95"]
        table.add_row(
            escape(row["engine"]),
            escape(row["case"]),
            f"{row['images_per_s']:.1f}",
            f"{row['share']:.3f} ({low:.3f} to {high:.3f})",
            f"{row['least_share']:.3f}",
        )
    console.print(table)
    missing_and_busy(found, console)


def throughput(found: Mapping[str, Any], console: Console) -> None:
    """A row for each layout at each batch size."""
    console.print(headline(found))
    title = f"{found['model']}, {found['cores']} cores, {found['callers']} callers"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("engine")
    columns = ("processes", "streams", "threads", "batch", "rounds")
    for name in (*columns, "images/s", "p50 ms", "p99 ms", "gain (95 %)", "best"):
        table.add_column(name, justify="right")
    for point in found["points"]:
        low, high = point["gain"]["ci95"]
        table.add_row(
            escape(point["engine"]),
            *(str(point[name]) for name in columns),
            f"{point['images_per_s']:.1f}",
            f"{point['p50_ms']:.2f}",
            f"{point['p99_ms']:.2f}",
            f"{point['gain']['median']:.3f} ({low:.3f} to {high:.3f})",
            "*" if point["best"] else "",
        )
    console.print(table)
    missing_and_busy(found, console)
