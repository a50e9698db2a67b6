"""The causes in each engine of a build, read back from the engines themselves."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from exporter import host
from exporter.artifact import Precision, Skipped, Verdict
from exporter.builds.folder import BuildFolder
from exporter.builds.option import command_line
from exporter.builds.records import EngineRecord, Manifest
from exporter.causes.examine import Specimen, examine
from exporter.causes.finding import Finding
from exporter.errors import ExporterError
from exporter.graph.files import load
from exporter.measure.profile import Network
from exporter.passes.blocks import GraphFacts, find_residual_blocks
from exporter.progress import Progress
from exporter.targets import get_target

if TYPE_CHECKING:
    import onnx_ir as ir

Found = tuple[Finding, ...] | Skipped


def causes_of(
    folder: Path, manifest: Manifest, engine_id: str, threads: int | None, progress: Progress
) -> Mapping[str, Found]:
    """Engine id -> what keeps it from being faster, or why that is not known.

    An engine whose receipt says that all is fused and nothing was kept has nothing to look for.
    """
    found: dict[str, Found] = {}
    network = None
    for engine in manifest.engines:
        if engine_id not in ("", engine.id):
            continue
        if _is_healthy(engine, manifest):
            found[engine.id] = ()
            continue
        if engine.rejected:
            found[engine.id] = Skipped("it was rejected when it was built")
            continue
        try:
            network = network or _Built(folder, manifest)
            with progress.stage(f"look into {engine.id}"):
                found[engine.id] = network.causes(engine, threads or host.usable_threads())
        except ExporterError as error:
            found[engine.id] = Skipped(f"its engine is not read back here: {error}")
    return found


def _is_healthy(engine: EngineRecord, manifest: Manifest) -> bool:
    receipt = engine.receipt
    whole = receipt.verdict is Verdict.FUSED and receipt.float_ops == 0
    return whole and not manifest.request.keep


class _Built:
    """What all engines of a build have in common."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        path = BuildFolder(folder, manifest.model.name).portable_path(Precision.FP32)
        portable = load(path)
        self.facts = GraphFacts.of(portable, (), find_residual_blocks(portable))
        self.network = Network.of(manifest.model, path, manifest.request.seed)

    def causes(self, engine: EngineRecord, threads: int) -> tuple[Finding, ...]:
        specimen = Specimen(
            engine=self.folder / engine.path,
            precision=engine.precision,
            graph=self._graph(engine),
            facts=self.facts,
            kept=self.manifest.request.keep,
            command=self._without_keep(),
        )
        return examine(get_target(engine.target), specimen, self.network, threads).findings

    def _graph(self, engine: EngineRecord) -> ir.Model:
        """What the runtime was given: the engine itself where that is an ONNX file."""
        path = engine.path if engine.path.endswith(".onnx") else engine.built_from
        return load(self.folder / path)

    def _without_keep(self) -> str:
        """What builds it again with nothing kept; "" where nothing is."""
        request = self.manifest.request
        if not request.keep:
            return ""
        return shlex.join(["exporter", "export", *command_line(attrs.evolve(request, keep=()))])
