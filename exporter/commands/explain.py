"""`exporter explain`: each engine's fusion receipt, residual block by residual block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from exporter.builds.records import EngineRecord, Manifest
from exporter.commands.tables import receipt_summary
from exporter.errors import unknown_name
from exporter.measure.timing import BlockTime, Profile

if TYPE_CHECKING:
    from rich.console import Console


def explain(manifest: Manifest, engine_id: str, console: Console) -> None:
    """Prints the receipt of one engine, or of all where `engine_id` is empty.

    Raises:
        UsageError: no such engine was asked for when the build was made.
    """
    known = [engine.id for engine in manifest.engines]
    known += [failed.id for failed in manifest.failed_engines]
    if engine_id and engine_id not in known:
        raise unknown_name("engine", engine_id, known)
    for engine in manifest.engines:
        if engine_id in ("", engine.id):
            _explain(engine, console)
    for failed in manifest.failed_engines:
        if engine_id in ("", failed.id):
            reason = escape(failed.reason)
            console.print(
                f"[bold]{escape(failed.id)}[/]  [red]failed to {failed.stage}[/]: {reason}"
            )


def _explain(engine: EngineRecord, console: Console) -> None:
    receipt = engine.receipt
    console.print(f"[bold]{escape(engine.id)}[/]  {receipt_summary(receipt)}")
    for failure in engine.failures:
        console.print(f"  [red]failed[/]: {escape(failure)}")
    console.print(f"  read from: {escape(receipt.source)}")
    if receipt.reason:
        console.print(f"  reason: {escape(receipt.reason)}")
    profile = engine.profile
    spent = {b.name: b for b in profile.blocks} if isinstance(profile, Profile) else {}
    table = Table("block", "kernels", "dtype", "add fused", "time")
    for block in receipt.blocks:
        table.add_row(
            escape(block.name),
            escape(block.operators),
            escape(block.dtypes),
            "yes" if block.add_fused else f"[yellow]no[/] {escape(block.reason or '')}",
            _time_of(spent.get(block.name)),
        )
    console.print(table)
    console.print(f"  {escape(_source_of(engine))}")
    for kernel, block_name, reason in receipt.leftovers:
        console.print(f"  left over: {escape(f'{kernel} ({block_name}): {reason}')}")


def _time_of(block: BlockTime | None) -> str:
    return f"{block.microseconds:.0f} us, {block.share:.1%}" if block else "-"


def _source_of(engine: EngineRecord) -> str:
    profile = engine.profile
    if not isinstance(profile, Profile):
        return f"no time per block: {profile.skipped}"
    return (
        f"time per block: {profile.source}, batch {profile.batch}, {profile.threads} "
        f"threads, median of {profile.runs} runs; {profile.outside_us:.0f} us outside"
    )
