"""`exporter trace`: the network that is meant, and its trace on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.builds import converters
from exporter.models.trace import Shape, Trace
from exporter.progress import Silent

if TYPE_CHECKING:
    from rich.console import Console


def traced(
    model: str,
    weights: str | None,
    num_classes: int | None,
    image_size: int | tuple[int, int] | None,
) -> Trace:
    """How a tensor moves through the model of that name; `weights` None: as suits it.

    Raises:
        UsageError: there is no such model, or it is not as asked for.
    """
    from exporter.models.names import is_onnx
    from exporter.models.sources import define
    from exporter.models.trace import trace

    # A table's network is traced without looking for its weights; everything else brings its own.
    chosen = weights or ("auto" if ":" in model or is_onnx(model) else "random")
    size = converters.image_size(image_size)
    defined = define(model, chosen, num_classes=num_classes, image_size=size, progress=Silent())
    return trace(defined)


def render(traced: Trace, console: Console) -> None:
    """The rows as a table with a line at each layer's end, then the summary per stage."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from exporter.commands.print_table import print_table

    shape = _shape(traced.input)
    table = Table(
        title=Text(f"{traced.model}, input {shape}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("module", no_wrap=True)
    for heading in ("kind", "kernel", "stride", "pad"):
        table.add_column(heading)
    for heading in ("input", "output", "params", "MACs"):
        table.add_column(heading, justify="right", no_wrap=True)
    previous = ""
    for row in traced.rows:
        layer = ".".join(row.path.split(".")[:2]) if "." in row.path else ""
        if previous and layer != previous:
            table.add_section()
        previous = layer
        table.add_row(
            row.path,
            row.kind.removesuffix("2d"),
            _side(row.kernel),
            _side(row.stride),
            _side(row.padding),
            _shape(row.input),
            _shape(row.output),
            f"{row.parameters / 1e3:,.1f} k" if row.parameters else "",
            f"{row.macs / 1e6:,.1f} M" if row.macs else "",
        )
    print_table(table, console, markup=False)
    summary = Table(
        title="stage by stage", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for heading in ("stage", "blocks", "planes", "HxW"):
        summary.add_column(heading, no_wrap=True)
    summary.add_column("what changed")
    for heading in ("params", "MACs"):
        summary.add_column(heading, justify="right", no_wrap=True)
    for stage in traced.stages:
        summary.add_row(
            stage.name,
            str(stage.blocks or ""),
            f"{stage.planes_in} -> {stage.planes_out}",
            f"{_shape(stage.size_in)} -> {_shape(stage.size_out) or '-'}",
            stage.change,
            f"{stage.parameters / 1e3:,.1f} k",
            f"{stage.macs / 1e6:,.1f} M",
        )
    print_table(summary, console, markup=False)
    console.print(f"{traced.parameters:,} parameters, {traced.macs:,} MACs an image")


def _side(shape: Shape | None) -> str:
    """A square kernel by its side."""
    return str(shape[0]) if shape and len(set(shape)) == 1 else _shape(shape)


def _shape(shape: Shape | None) -> str:
    return "x".join(map(str, shape)) if shape else ""
