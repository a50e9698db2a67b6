"""Two precisions of one target beside each other, block by block: what the narrower one wins.

A block has something to win where it gains less than its engine does: the time that it would save
if it were as much faster as the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import TYPE_CHECKING

from exporter.artifact import Precision, Skipped
from exporter.builds.records import EngineRecord
from exporter.causes.finding import Finding
from exporter.measure.timing import Profile
from exporter.prove.certificate import BlockReceipt, Parity
from exporter.targets import Cause

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class BlockSide:
    """A residual block in one engine."""

    kernels: str
    dtypes: str
    add_fused: bool
    microseconds: float | None
    added_sqnr_db: float | None
    """Its own error, as `exporter validate --blocks` recorded it."""


@dataclass(frozen=True)
class BlockPair:
    """A residual block in two engines."""

    name: str
    wide: BlockSide
    narrow: BlockSide
    to_win_us: float | None
    """What it would save if it gained as much as its engine does; None: one was not profiled."""
    reasons: tuple[Cause, ...]
    """Why the narrow one is slower than it need be."""


@dataclass(frozen=True)
class EnginePair:
    """Two precisions of one target; the blocks with the most to win first."""

    target: str
    wide: Precision
    narrow: Precision
    blocks: tuple[BlockPair, ...]


def pairs(
    engines: Sequence[EngineRecord], findings: Mapping[str, Sequence[Finding]]
) -> tuple[EnginePair, ...]:
    """Every two precisions of each target, the wider first. `findings` are by engine id."""
    order = list(Precision)
    ranked = sorted(engines, key=lambda e: (e.target, order.index(e.precision)))
    found: list[EnginePair] = []
    for target, same in groupby(ranked, key=lambda engine: engine.target):
        for wide, narrow in combinations(same, 2):
            blocks = tuple(_blocks(wide, narrow, findings.get(narrow.id, ())))
            if blocks:
                found.append(EnginePair(target, wide.precision, narrow.precision, blocks))
    return tuple(found)


def _blocks(
    wide: EngineRecord, narrow: EngineRecord, findings: Sequence[Finding]
) -> list[BlockPair]:
    gain = _gain(wide, narrow)
    found = []
    before = {block.name: block for block in wide.receipt.blocks}
    for block in narrow.receipt.blocks:
        if block.name not in before:
            continue
        first, second = _side(wide, before[block.name]), _side(narrow, block)
        to_win = None
        if gain is not None and first.microseconds is not None and second.microseconds is not None:
            to_win = max(0.0, second.microseconds - first.microseconds / gain)
        names = {kernel.name for kernel in block.kernels}
        reasons = tuple(f.cause for f in findings if not names.isdisjoint(f.kernels))
        found.append(BlockPair(block.name, first, second, to_win, reasons))
    return sorted(found, key=lambda block: -(block.to_win_us or 0.0))


def _gain(wide: EngineRecord, narrow: EngineRecord) -> float | None:
    """How many times less the kernels of the narrow engine take together."""
    if isinstance(wide.profile, Skipped) or isinstance(narrow.profile, Skipped):
        return None
    if not wide.profile.total_us or not narrow.profile.total_us:
        return None
    return wide.profile.total_us / narrow.profile.total_us


def _side(engine: EngineRecord, block: BlockReceipt) -> BlockSide:
    spent = {}
    if isinstance(engine.profile, Profile):
        spent = {one.name: one.microseconds for one in engine.profile.blocks}
    errors = {}
    if isinstance(engine.parity, Parity):
        errors = {one.name: one.added_sqnr_db for one in engine.parity.blocks}
    return BlockSide(
        kernels=block.operators,
        dtypes=block.dtypes,
        add_fused=block.add_fused,
        microseconds=spent.get(block.name),
        added_sqnr_db=errors.get(block.name),
    )


def render_pairs(found: Sequence[EnginePair], console: Console) -> None:
    """A table for each pair of precisions."""
    from rich.markup import escape
    from rich.table import Table

    from exporter.commands.print_table import print_table

    for pair in found:
        title = f"{escape(pair.target)}: {pair.wide} against {pair.narrow}, the most to win first"
        table = Table(
            "block", str(pair.wide), "time", str(pair.narrow), "time", "own error", "to win", "why",
            title=title, title_justify="left",
        )  # fmt: skip
        for block in pair.blocks:
            table.add_row(escape(block.name), *_cells(block))
        print_table(table, console)


def _cells(block: BlockPair) -> Iterator[str]:
    from rich.markup import escape

    for side in (block.wide, block.narrow):
        apart = "" if side.add_fused else " [yellow]add apart[/]"
        yield f"{escape(side.kernels)} ({escape(side.dtypes)}){apart}"
        yield "-" if side.microseconds is None else f"{side.microseconds:.0f} us"
    error = block.narrow.added_sqnr_db
    yield "-" if error is None else f"{error:.1f} dB"
    yield "-" if block.to_win_us is None else f"{block.to_win_us:.0f} us"
    yield ", ".join(block.reasons) or "-"
