"""`exporter explain BUILD --error`: where the error of its 8-bit engines comes from."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from exporter import host
from exporter.artifact import Skipped
from exporter.builds.codec import json_text
from exporter.builds.explain_request import ExplainRequest
from exporter.builds.option import command_line
from exporter.builds.records import EngineRecord, Manifest
from exporter.errors import UsageError, unknown_name
from exporter.passes.switch_quantization import Part
from exporter.progress import Progress
from exporter.prove.certificate import BlockDrift, Parity
from exporter.prove.drift import Place, measure_drift
from exporter.prove.error_sources import BlockError, error_sources

if TYPE_CHECKING:
    from rich.console import Console


_NAMED: Final = 0.02
"""Channels with less of a block's squared error are not worth a name."""


@dataclass(frozen=True)
class EngineError:
    """Where one engine's error comes from."""

    id: str
    blocks: tuple[BlockError, ...]
    """Blocks, stem and head, or lone layers: the largest error of its own first."""
    drift: tuple[BlockDrift, ...] | Skipped
    """The engine's own error behind each residual block, built up and added, in graph order."""
    command: str
    """What builds it again with the first of them in float."""


@dataclass(frozen=True)
class ErrorExplanation:
    """What `exporter explain BUILD --error` tells."""

    model: str
    engines: tuple[EngineError, ...]

    def to_json(self) -> str:
        """The same, for programs."""
        return json_text(self)


def explain_error(
    folder: Path, manifest: Manifest, request: ExplainRequest, progress: Progress
) -> ErrorExplanation:
    """Of each 8-bit engine, or of the one that is named.

    Raises:
        UsageError: no such engine, or none in 8 bits.
        BuildError: the build's graphs no longer answer as they did.
    """
    engines = [engine for engine in manifest.engines if request.engine in ("", engine.id)]
    if request.engine and not engines:
        known = [engine.id for engine in manifest.engines]
        raise unknown_name("engine", request.engine, known)
    engines = [engine for engine in engines if engine.precision.quantized]
    if not engines:
        raise UsageError(
            "--error splits the error of INT8 and FP8 engines, and there is none here; of others "
            "`exporter validate --blocks` tells the error of each block"
        )
    threads = request.threads or host.usable_threads()
    by_graph: dict[str, tuple[BlockError, ...]] = {}
    found = []
    with tempfile.TemporaryDirectory(prefix="exporter-error-") as scratch:
        place = Place(folder, Path(scratch), threads, manifest.model.input.shape[0])
        for engine in engines:
            if engine.built_from not in by_graph:
                with progress.stage(f"split the error of {engine.id}"):
                    by_graph[engine.built_from] = error_sources(
                        manifest.model, folder / engine.built_from, place
                    )
            blocks = by_graph[engine.built_from]
            drift = _drift(folder, engine, manifest, threads, progress)
            found.append(EngineError(engine.id, blocks, drift, _command(manifest, blocks)))
    return ErrorExplanation(manifest.model.name, tuple(found))


def _drift(
    folder: Path, engine: EngineRecord, manifest: Manifest, threads: int, progress: Progress
) -> tuple[BlockDrift, ...] | Skipped:
    """As `exporter validate --blocks` recorded it, else measured now."""
    if isinstance(engine.parity, Parity) and engine.parity.blocks:
        return engine.parity.blocks
    measured = measure_drift(folder, [engine], manifest.model, threads, progress)
    if engine.id in measured.blocks:
        return measured.blocks[engine.id]
    if not manifest.model.residual_blocks:
        return Skipped("the network has no residual blocks to tell it behind")
    return Skipped("; ".join(measured.failures) or "it does not run here")


def _command(manifest: Manifest, blocks: tuple[BlockError, ...]) -> str:
    if not blocks:
        return ""
    kept = attrs.evolve(manifest.request, keep=(*manifest.request.keep, *blocks[0].keep))
    return shlex.join(["exporter", "export", *command_line(kept)])


def render(explanation: ErrorExplanation, console: Console) -> None:
    """A table an engine, and what is odd about its blocks."""
    from rich.markup import escape
    from rich.table import Table

    from exporter.commands.print_table import print_table

    for engine in explanation.engines:
        built_up = _built_up(engine)
        table = Table(
            "block", "own rel_l2", "SQNR dB", "weights alone", "activations alone", "biases alone",
            "built up", "channels that carry it", title=escape(engine.id), title_justify="left",
        )  # fmt: skip
        for block in engine.blocks:
            table.add_row(
                escape(block.name),
                f"{block.own_rel_l2:.2e}",
                f"{block.own_sqnr_db:.1f}",
                *(f"{block.parts[part]:.2e}" if block.parts else "-" for part in Part),
                f"{built_up[block.name]:.2e}" if block.name in built_up else "-",
                _carriers(block),
            )
        print_table(table, console)
        if isinstance(engine.drift, Skipped):
            console.print(f"  built up: {escape(engine.drift.skipped)}")
        for block in engine.blocks:
            for oddity in block.oddities:
                console.print(f"  {escape(block.name)}: [yellow]{escape(oddity)}[/]")
        if engine.blocks:
            first = engine.blocks[0]
            console.print(f"  what mends the most: {escape(first.mend)} ({escape(first.name)})")
            console.print(f"  {escape(engine.command)}", soft_wrap=True)


def _carriers(block: BlockError) -> str:
    named = [one for one in block.channels if one.share >= _NAMED]
    return ", ".join(f"{one.channel} ({one.share:.0%})" for one in named) or "none above others"


def _built_up(engine: EngineError) -> Mapping[str, float]:
    if isinstance(engine.drift, Skipped):
        return {}
    return {block.name: block.built_up_rel_l2 for block in engine.drift}
