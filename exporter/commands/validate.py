"""`exporter validate`: are the files those that were built, and do they still answer rightly?

It changes no engine; with `blocks` it adds the drift to the manifest and the report.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import host
from exporter.artifact import Skipped
from exporter.builds import manifest as manifests
from exporter.builds.codec import json_text
from exporter.builds.folder import BuildFolder, sha256_of
from exporter.builds.records import EngineRecord, Manifest
from exporter.builds.staging import check_writable
from exporter.errors import ExporterError, MissingDependencyError
from exporter.progress import Progress
from exporter.prove.certificate import Parity, Scope
from exporter.prove.drift import Drift, measure_drift
from exporter.prove.engine import check_engine
from exporter.prove.limits import LIMITS
from exporter.prove.reference import Reference, read_goldens
from exporter.report import write_report
from exporter.targets import get_target, why_not_here

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Replay:
    """What became of one engine."""

    id: str
    files: str
    """"intact", "changed" or "missing"."""
    parity: Parity | Skipped
    """Of its answers to the golden inputs, or why they were not asked for."""
    failure: str | None = None
    """Why it fails the command."""


@dataclass(frozen=True)
class Validated:
    """What `exporter validate --json` prints."""

    model: str
    engines: tuple[Replay, ...]
    failures: tuple[str, ...]

    def to_json(self) -> str:
        """The same, for programs."""
        return json_text(self)


@dataclass(frozen=True)
class Validation:
    """What `exporter validate` found."""

    manifest: Manifest
    replays: tuple[Replay, ...]
    failures: tuple[str, ...]

    @property
    def outcome(self) -> Validated:
        """Without the build's record."""
        return Validated(self.manifest.model.name, self.replays, self.failures)


def validate_build(
    folder: Path, *, blocks: bool, threads: int | None, progress: Progress
) -> Validation:
    """Checks every engine's files by hash and its answers on the golden inputs.

    An engine that cannot be checked here is a row that says why, and hides no other. A build of
    which no engine could be checked fails.

    Raises:
        InputError: no build there, or its goldens are missing or changed beyond reading.
    """
    manifest = manifests.read(folder)
    if blocks:
        check_writable(folder)
    goldens = read_goldens(BuildFolder(folder, manifest.model.name).golden, manifest.model)
    threads = threads or host.usable_threads()
    replays = [_replay(folder, engine, goldens, threads, progress) for engine in manifest.engines]
    failures = [f"{replay.id}: {replay.failure}" for replay in replays if replay.failure]
    if not failures and not any(isinstance(replay.parity, Parity) for replay in replays):
        failures.append("no engine of this build could be checked here; see the reasons above")
    if blocks:
        drift = measure_drift(folder, manifest.engines, manifest.model, threads, progress)
        failures.extend(drift.failures)
        replays = [replace(one, parity=_with_blocks(one, drift)) for one in replays]
        engines = tuple(replace(one, parity=_with_blocks(one, drift)) for one in manifest.engines)
        manifest = replace(manifest, engines=engines)
        manifests.write(folder, manifest)
        write_report(folder, manifest)
    return Validation(manifest, tuple(replays), tuple(failures))


def _with_blocks(engine: EngineRecord | Replay, drift: Drift) -> Parity | Skipped:
    """The engine's parity with the error at each residual block, where that was measured."""
    if isinstance(engine.parity, Parity) and engine.id in drift.blocks:
        return replace(engine.parity, blocks=drift.blocks[engine.id])
    return engine.parity


def _replay(
    folder: Path, engine: EngineRecord, goldens: Reference, threads: int, progress: Progress
) -> Replay:
    for file in engine.files:
        path = folder / file.path
        if not path.is_file():
            why = f"{file.path} is missing"
            return Replay(engine.id, "missing", Skipped(why), why)
        if sha256_of(path) != file.sha256:
            why = f"{file.path} is not the file that was validated"
            return Replay(engine.id, "changed", Skipped(why), why)
    found = Replay(engine.id, "intact", Skipped("not run: it was rejected when it was built"))
    if engine.rejected:
        return found
    try:
        target = get_target(engine.target)
        absent = why_not_here(engine.target, engine.requires)
    except MissingDependencyError as error:
        return replace(found, parity=Skipped(f"not run here: {error}"))
    except ExporterError as error:
        return replace(found, parity=Skipped(f"not run: {error}"), failure=str(error))
    if absent is not None:
        return replace(found, parity=Skipped(f"not run here: {absent.skipped}"))
    proof = check_engine(
        lambda: target.open(folder / engine.path, threads),
        goldens,
        LIMITS[engine.precision, engine.trained],
        scope=Scope.ENGINE,
        progress=progress,
        title=engine.id,
    )
    failure = proof.failure
    if isinstance(proof.parity, Parity) and not proof.parity.passed:
        failure = "; ".join(proof.parity.failures)
    return replace(found, parity=proof.parity, failure=failure)


def render(validated: Validated, console: Console) -> None:
    """What was found, an engine a row."""
    from rich.markup import escape
    from rich.table import Table

    from exporter.commands.print_table import print_table

    table = Table("engine", "files", "golden inputs", "rel_l2", "SQNR", "verdict")
    for replay in validated.engines:
        parity = replay.parity
        figures = ("", "", "")
        if isinstance(parity, Parity):
            worst = f" ({escape(parity.output)})" if parity.output else ""
            error = f"{parity.rel_l2:.2e}{worst}"
            figures = (str(parity.samples), error, f"{parity.sqnr_db:.1f} dB")
        verdict = "[green]passed[/]"
        if replay.failure:
            verdict = f"[red]{escape(replay.failure)}[/]"
        elif isinstance(parity, Skipped):
            verdict = f"[yellow]{escape(parity.skipped)}[/]"
        table.add_row(escape(replay.id), replay.files, *figures, verdict)
    print_table(table, console)


def render_drift(manifest: Manifest, console: Console) -> None:
    """The error at each residual block's output: built up so far, and added by the block alone."""
    from rich.markup import escape
    from rich.table import Table

    from exporter.commands.print_table import print_table

    for engine in manifest.engines:
        if not isinstance(engine.parity, Parity) or not engine.parity.blocks:
            continue
        table = Table(
            "block", "built up rel_l2", "SQNR dB", "added rel_l2", "SQNR dB",
            title=escape(engine.id), title_justify="left",
        )  # fmt: skip
        most = max(block.added_rel_l2 for block in engine.parity.blocks)
        for block in engine.parity.blocks:
            table.add_row(
                escape(block.name),
                f"{block.built_up_rel_l2:.2e}",
                f"{block.built_up_sqnr_db:.1f}",
                f"{block.added_rel_l2:.2e}",
                f"{block.added_sqnr_db:.1f}",
                style="bold yellow" if block.added_rel_l2 == most else "",
            )
        print_table(table, console)
