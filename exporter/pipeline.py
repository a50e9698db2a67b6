"""The stages in order: define -> export -> optimize -> calibrate -> lower -> correct -> build ->
validate -> measure -> report. This is the only file that knows that order; read it first.

An engine that fails does not stop the others: its failure is listed in the manifest and in the
`Outcome`, and the command line turns it into exit code 1.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exporter import host, report
from exporter.artifact import (
    Accuracy,
    Dialect,
    Engine,
    EngineRecord,
    Model,
    Parity,
    Precision,
    Ranges,
    Receipt,
    Skipped,
)
from exporter.builds import manifest
from exporter.builds.describe import describe_build
from exporter.builds.folder import BuildFolder, sha256_of, staged
from exporter.errors import BuildError
from exporter.graph.bake import bake, with_images
from exporter.graph.files import save
from exporter.graph.lower import HAVE_FP16_BETWEEN, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import Data, Samples, open_data
from exporter.measure.ceilings import measure_ceilings
from exporter.measure.stage import measure_records, profile_built
from exporter.models.sources import define
from exporter.passes.blocks import GraphFacts, find_residual_blocks
from exporter.plan import ExportRequest, plan, settings_of
from exporter.progress import Clock, Progress
from exporter.prove.failed_gates import notes_of, problems
from exporter.prove.parity import (
    Reference,
    batch_size,
    check_accuracy,
    check_parity,
    make_reference,
    save_goldens,
)
from exporter.prove.receipt import make_receipt, unverified_receipt
from exporter.quantize.calibrate import calibrate
from exporter.quantize.correct import CORRECTIONS, correct
from exporter.targets import BuildOptions, Target, UnreadableKernels, get_target
from exporter.targets.foresight import foresee
from exporter.targets.ort.session import open_graph

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Outcome:
    """A finished build and what did not pass in it."""

    folder: Path
    manifest: dict[str, Any]
    failures: tuple[str, ...]


def export_model(request: ExportRequest, progress: Progress) -> Outcome:
    """The main job: a model to verified engines, a manifest and a report.

    Raises:
        UsageError: the request or an input cannot be used; nothing was written.
        BuildError: a stage that all engines need failed; nothing was written.
    """
    host.check_single_onnxruntime()
    pairs = plan(request)
    clock = Clock()
    with clock.time("define"), progress.stage(f"define {request.source}"):
        model = define(
            request.source,
            request.weights,
            num_classes=request.num_classes,
            image_size=request.image_size,
            seed=request.seed,
            progress=progress,
        )
    data = open_data(model.spec, request.data, seed=request.seed, progress=progress)
    for note in (*model.notes, *data.notes):
        progress.note(note)
    destination = request.out or Path("build") / model.spec.name
    with staged(destination, model.spec.name) as folder:
        compiler = Compiler(request, folder, clock, progress)
        result = compiler.compile(model, data, pairs)
        manifest.write(folder.root, result)
        with clock.time("report"), progress.stage("report"):
            report.write_report(folder.root, result)
    return Outcome(destination, result, tuple(result["failures"]))


@dataclass(frozen=True)
class Prepared:
    """What every engine of a build shares."""

    model: Model
    data: Data
    graph: ir.Model
    facts: GraphFacts
    reference: Reference


class Compiler:
    """One run of the pipeline into one staging folder."""

    def __init__(
        self, request: ExportRequest, folder: BuildFolder, clock: Clock, progress: Progress
    ) -> None:
        self.request = request
        self.folder = folder
        self.clock = clock
        self.progress = progress
        self.threads = request.threads or host.usable_threads()
        self.failures: list[str] = []
        self._ranges: Ranges | None = None
        self._ceilings: dict[str, Any] = {"skipped": "nothing was measured"}
        self._graph_parity: dict[Path, tuple[Parity, Accuracy | None]] = {}
        self._graphs: dict[tuple[Precision, Dialect, bool], str] = {}
        self._lowered: dict[tuple[Precision, Dialect, bool], tuple[Path, tuple[str, ...]]] = {}

    def compile(
        self, model: Model, data: Data, pairs: tuple[tuple[Target, Precision], ...]
    ) -> dict[str, Any]:
        """Builds, proves and measures every pair; returns the manifest."""
        with tempfile.TemporaryDirectory(dir=self.folder.root, prefix=".lowered-") as lowered:
            prepared = self.prepare(model, data)
            records = []
            for target, precision in pairs:
                record = self.compile_engine(prepared, target, precision, Path(lowered))
                if record is not None:
                    records.append(record)
            records = [self.with_graph(record) for record in records]
            records = self.measure(prepared.model, records)
        return self.describe(prepared, records)

    def prepare(self, model: Model, data: Data) -> Prepared:
        """Define's result to the optimized graph, the portable files, reference and goldens."""
        with self.clock.time("export"), self.progress.stage("export to ONNX"):
            exported = export(model)
        with self.clock.time("optimize"), self.progress.stage("optimize"):
            graph, reports = optimize(exported)
            blocks = find_residual_blocks(graph)
            facts = GraphFacts.of(graph, reports, blocks)
        spec = replace(model.spec, residual_blocks=tuple(block.name for block in blocks))
        model = replace(model, spec=spec)
        self.folder.graph(Precision.FP32).parent.mkdir()
        save(graph, self.folder.graph(Precision.FP32))
        half, _ = lower(graph, Precision.FP16, Dialect.FLOAT, fuse_residual=False)
        save(half, self.folder.graph(Precision.FP16))
        evaluation = data.evaluation
        if evaluation.labels is None:
            evaluation = evaluation.take(self.request.samples)
        inputs = np.concatenate(list(evaluation.batches(32)))
        if self.request.bake_preprocess:
            model, inputs = with_images(model, inputs, self.progress)
        with self.clock.time("reference"):
            reference = make_reference(model, inputs, evaluation.labels, self.progress)
        save_goldens(self.folder.golden, reference)
        return Prepared(model, data, graph, facts, reference)

    def compile_engine(
        self, prepared: Prepared, target: Target, precision: Precision, scratch: Path
    ) -> EngineRecord | None:
        """One engine with its receipt, parity and accuracy; None where it could not be built."""
        identity = f"{target.name}.{precision}"
        try:
            graph, notes = self.lowered(prepared, target, precision, scratch)
            with self.clock.time("build"), self.progress.stage(f"build {identity}"):
                out = self.folder.engine(target.name, precision)
                out.parent.mkdir(parents=True, exist_ok=True)
                options = BuildOptions(
                    allow_fallback=self.request.allow_fallback,
                    keep=self.request.keep,
                    settings=settings_of(self.request, target),
                    report=self.progress.detail,
                )
                built = target.build(graph, precision, out, options)
                files = self.folder.share_portable(built.files, precision)
                receipt = self.read_receipt(prepared, target, precision, files[0])
                foreseen, advice = foresee(target.name, precision, files[0], self.request.batches)
            with self.clock.time("validate"):
                parity, accuracy = self.prove(prepared, target, precision, graph, files[0])
        except BuildError as error:
            self.failures.append(f"{identity}: {error}")
            return None
        failed = problems(receipt, parity, allow_partial=self.request.allow_partial)
        if failed:
            self.failures.extend(f"{identity}: {problem}" for problem in failed)
            files = self.folder.reject(files)
        engine = Engine(
            id=identity,
            target=target.name,
            precision=precision,
            dialect=target.dialect(precision),
            files=tuple(self.folder.entry(path) for path in files),
            trained=prepared.model.spec.weights.trained,
            requires=built.requires,
        )
        return EngineRecord(
            engine=engine,
            receipt=receipt,
            parity=parity,
            accuracy=accuracy,
            latency=Skipped("not measured yet"),
            notes=(*notes, *advice),
            predicted=foreseen,
        )

    def lowered(
        self, prepared: Prepared, target: Target, precision: Precision, scratch: Path
    ) -> tuple[Path, tuple[str, ...]]:
        """The ONNX file that a target builds from, made once for all targets that share it."""
        dialect = target.dialect(precision)
        key = (precision, dialect, target.fuses_residual(precision))
        if key not in self._lowered:
            ranges = None
            if precision is Precision.INT8:
                ranges = self.ranges(prepared)
            with self.clock.time("lower"), self.progress.stage(f"lower to {precision} {dialect}"):
                graph, reports = lower(
                    prepared.graph,
                    precision,
                    dialect,
                    fuse_residual=key[2],
                    ranges=ranges,
                    keep=self.request.keep,
                    between=self.between(dialect),
                    reduce_range=self.request.reduce_range,
                )
            if precision is Precision.INT8:
                with self.clock.time("correct"):
                    graph = correct(
                        graph,
                        prepared.graph,
                        self.calibration(prepared),
                        self.progress,
                        **CORRECTIONS[self.request.correction],
                    )
            if self.request.bake_preprocess:
                graph, baked = bake(prepared.model, graph, prepared.graph)
                reports = (*reports, baked)
            path = scratch / f"{precision}-{dialect}{'-fused' if key[2] else ''}.onnx"
            save(graph, path)
            self._lowered[key] = path, notes_of(reports)
        return self._lowered[key]

    def between(self, dialect: Dialect) -> Precision:
        """What was asked for, where the dialect has it."""
        return self.request.between if dialect in HAVE_FP16_BETWEEN else Precision.FP32

    def with_graph(self, record: EngineRecord) -> EngineRecord:
        """The record, naming the lowered ONNX file that its engine was built from.

        Where no engine or portable file is that very file, it is kept under `onnx/`.
        """
        engine = record.engine
        target = get_target(engine.target)
        key = (engine.precision, engine.dialect, target.fuses_residual(engine.precision))
        if key not in self._graphs:
            lowered, _ = self._lowered[key]
            wanted = sha256_of(lowered)
            candidates = sorted(self.folder.root.glob("[!.]*/**/*.onnx"))
            kept = next((path for path in candidates if sha256_of(path) == wanted), None)
            if kept is None:
                kept = self.folder.lowered(engine.precision, engine.dialect)
                lowered.replace(kept)
            self._graphs[key] = kept.relative_to(self.folder.root).as_posix()
        return replace(record, engine=replace(engine, graph=self._graphs[key]))

    def calibration(self, prepared: Prepared) -> Samples:
        return prepared.data.calibration.take(self.request.calibration_samples)

    def ranges(self, prepared: Prepared) -> Ranges:
        """The ranges of all tensors, calibrated once for all dialects."""
        if self._ranges is None:
            with self.clock.time("calibrate"):
                self._ranges = calibrate(
                    prepared.graph,
                    self.calibration(prepared),
                    method=self.request.calibration_method,
                    progress=self.progress,
                    cache=host.cache_folder() / "ranges",
                )
        return self._ranges

    def read_receipt(
        self, prepared: Prepared, target: Target, precision: Precision, engine: Path
    ) -> Receipt:
        """What the runtime made of the graph; `unverified` with the reason where it is silent."""
        dialect = target.dialect(precision)
        expected = target.expected(precision)
        try:
            kernels, source = target.kernels(engine)
        except UnreadableKernels as error:
            return unverified_receipt(str(error), graph_facts=prepared.facts, expected=expected)
        return make_receipt(
            kernels,
            source,
            graph_facts=prepared.facts,
            precision=precision,
            dialect=dialect,
            expected=expected,
            kept=self.request.keep,
        )

    def prove(
        self,
        prepared: Prepared,
        target: Target,
        precision: Precision,
        graph: Path,
        engine: Path,
    ) -> tuple[Parity, Accuracy | None]:
        """Parity and accuracy of the engine, or of its lowered graph where it cannot run here."""
        here = target.runs_here() is None
        spec = prepared.model.spec
        if not here and graph in self._graph_parity:
            return self._graph_parity[graph]
        with (
            target.open(engine, self.threads)
            if here
            else open_graph(graph, self.threads) as session
        ):
            parity, outputs = check_parity(
                session,
                prepared.reference,
                precision,
                trained=spec.weights.trained,
                scope="engine" if here else "graph",
                size=batch_size(prepared.model),
                dynamic=not isinstance(spec.input.shape[0], int),
                progress=self.progress,
                title=f"{target.name}.{precision}",
            )
        accuracy = check_accuracy(outputs, prepared.reference, prepared.data.evaluation.source)
        if not here:
            self._graph_parity[graph] = parity, accuracy
        return parity, accuracy

    def measure(self, model: Model, records: list[EngineRecord]) -> list[EngineRecord]:
        """The records with their latencies against eager, in one interleaved run."""
        if not self.request.measure:
            return [replace(r, latency=Skipped("not asked for (--no-measure)")) for r in records]
        with self.clock.time("measure"):
            records = measure_records(
                model,
                records,
                self.folder.root,
                batches=self.request.batches,
                threads=self.threads,
                rounds=self.request.rounds,
                seed=self.request.seed,
                progress=self.progress,
            )
        with self.clock.time("profile"):
            records = profile_built(
                model,
                records,
                self.folder.root,
                self.folder.graph(Precision.FP32),
                threads=self.threads,
                seed=self.request.seed,
                progress=self.progress,
            )
            if records:
                self._ceilings = manifest.plain(measure_ceilings(self.threads))
        return records

    def describe(self, prepared: Prepared, records: list[EngineRecord]) -> dict[str, Any]:
        """The manifest."""
        evaluation = prepared.data.evaluation
        return describe_build(
            prepared.model.spec,
            self.request,
            records,
            calibration=None if self._ranges is None else self.calibration(prepared),
            evaluation={
                "source": evaluation.source,
                "samples": len(prepared.reference.inputs),
                "sha256": evaluation.sha256,
            },
            threads=self.threads,
            ceilings=self._ceilings,
            failures=self.failures,
            timings=self.clock.seconds,
        )
