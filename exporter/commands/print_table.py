"""A table that fits the terminal and cuts no word: columns shrink, and below that rows unfold.

The first column identifies the row and is never wrapped. Where the longest words of all columns are
wider than the terminal, each row becomes its first cell with a line below it for each other one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Column, Table


def print_table(table: Table, console: Console, *, markup: bool = True) -> None:
    """Prints the table; `markup`: whether its texts hold some."""

    def text(cell: RenderableType) -> Text:
        return cell if isinstance(cell, Text) else console.render_str(str(cell), markup=markup)

    headings = [text(column.header) for column in table.columns]
    columns = [[text(cell) for cell in column.cells] for column in table.columns]
    unlimited = console.options.update(max_width=10_000, markup=markup)
    needed = [
        Measurement.get(console, unlimited, Text("\n").join([heading, *cells]))
        for heading, cells in zip(headings, columns, strict=True)
    ]
    most = [one.maximum for one in needed]
    table.columns[0].no_wrap = True
    least = [
        one.maximum if column.no_wrap else one.minimum
        for one, column in zip(needed, table.columns, strict=True)
    ]
    borders = Measurement.get(console, unlimited, table).maximum - sum(most)
    room = console.width - borders - sum(least)
    if room >= 0:
        lacking = sorted(zip(most, least, table.columns, strict=True), key=_lack)
        for place, (high, low, column) in enumerate(lacking):  # who lacks little lacks nothing
            column.width = min(high, low + room // (len(lacking) - place))
            room -= column.width - low
        console.print(table, markup=markup)
        return
    if table.title is not None:
        console.print(text(table.title), style="table.title")
    for row, (name, *others) in zip(table.rows, zip(*columns, strict=True), strict=True):
        console.print(name, style=row.style, highlight=False)
        for heading, cell in zip(headings[1:], others, strict=True):
            if cell:
                label = Text.assemble((f"{heading}: ", "dim")) if heading else Text()
                below = Padding(label + cell, (0, 0, 0, 2))
                console.print(below, style=row.style, highlight=False)


def _lack(column: tuple[int, int, Column]) -> int:
    most, least, _ = column
    return most - least
