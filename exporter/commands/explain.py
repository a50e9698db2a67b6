"""`exporter explain BUILD`: each engine's fusion receipt, block by block, and what it could win."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from exporter.artifact import Skipped
from exporter.builds.codec import json_text
from exporter.builds.records import FailedEngine, Manifest
from exporter.causes.finding import Finding
from exporter.commands.engine_causes import Found
from exporter.commands.explain_pairs import EnginePair, pairs, render_pairs
from exporter.commands.findings_table import render_findings
from exporter.commands.print_table import print_table
from exporter.commands.tables import receipt_summary
from exporter.errors import unknown_name
from exporter.measure.timing import BlockTime, Profile
from exporter.prove.certificate import Receipt

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class ExplainedEngine:
    """What became of the network in one engine."""

    id: str
    receipt: Receipt
    profile: Profile | Skipped
    """Where the time goes, block by block."""
    failures: tuple[str, ...]
    findings: tuple[Finding, ...] | Skipped = Skipped("not looked for")
    """Why it is not faster, the most to win first; empty: nothing to fix."""


@dataclass(frozen=True)
class Explanation:
    """What `exporter explain` tells."""

    model: str
    engines: tuple[ExplainedEngine, ...]
    failed_engines: tuple[FailedEngine, ...]
    pairs: tuple[EnginePair, ...] = ()
    """Each target's precisions beside each other."""

    def to_json(self) -> str:
        """The same, for programs."""
        return json_text(self)


def explain(
    manifest: Manifest, engine_id: str = "", causes: Mapping[str, Found] = MappingProxyType({})
) -> Explanation:
    """The receipt of one engine, or of all where `engine_id` is empty.

    `causes` are those that were found in the engines, by engine id.

    Raises:
        UsageError: no such engine was asked for when the build was made.
    """
    explanation = Explanation(
        manifest.model.name,
        tuple(
            ExplainedEngine(
                engine.id,
                engine.receipt,
                engine.profile,
                engine.failures,
                causes.get(engine.id, Skipped("not looked for")),
            )
            for engine in manifest.engines
            if engine_id in ("", engine.id)
        ),
        tuple(failed for failed in manifest.failed_engines if engine_id in ("", failed.id)),
        () if engine_id else pairs(manifest.engines, _known(causes)),
    )
    if engine_id and not (explanation.engines or explanation.failed_engines):
        known = [engine.id for engine in manifest.engines]
        known += [failed.id for failed in manifest.failed_engines]
        raise unknown_name("engine", engine_id, known)
    return explanation


def _known(causes: Mapping[str, Found]) -> dict[str, tuple[Finding, ...]]:
    return {name: found for name, found in causes.items() if not isinstance(found, Skipped)}


def render(explanation: Explanation, console: Console) -> None:
    """Prints the receipts, a block a row."""
    for engine in explanation.engines:
        _render_engine(engine, console)
    for failed in explanation.failed_engines:
        reason = escape(failed.reason)
        console.print(f"[bold]{escape(failed.id)}[/]  [red]failed to {failed.stage}[/]: {reason}")
    render_pairs(explanation.pairs, console)


def _render_engine(engine: ExplainedEngine, console: Console) -> None:
    receipt, profile = engine.receipt, engine.profile
    console.print(f"[bold]{escape(engine.id)}[/]  {receipt_summary(receipt)}")
    for failure in engine.failures:
        console.print(f"  [red]failed[/]: {escape(failure)}")
    console.print(f"  read from: {escape(receipt.source)}")
    if receipt.convs_by_type:
        counted = ", ".join(f"{count} in {dtype}" for dtype, count in receipt.convs_by_type.items())
        console.print(f"  convolutions: {counted}")
    if receipt.reason:
        console.print(f"  reason: {escape(receipt.reason)}")
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
    print_table(table, console)
    console.print(f"  {escape(_source_of(profile))}")
    for kernel, block_name, reason in receipt.leftovers:
        console.print(f"  left over: {escape(f'{kernel} ({block_name}): {reason}')}")
    if isinstance(engine.findings, Skipped):
        console.print(f"  [dim]causes: {escape(engine.findings.skipped)}[/]")
    else:
        render_findings(engine.findings, console, indent="  ")


def _time_of(block: BlockTime | None) -> str:
    return f"{block.microseconds:.0f} us, {block.share:.1%}" if block else "-"


def _source_of(profile: Profile | Skipped) -> str:
    if not isinstance(profile, Profile):
        return f"no time per block: {profile.skipped}"
    return (
        f"time per block: {profile.source}, batch {profile.batch}, {profile.threads} "
        f"threads, median of {profile.runs} runs; {profile.outside_us:.0f} us outside"
    )
