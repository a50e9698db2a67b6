"""The line from a model to a proved, measured build; read this first.

    plan -> define -> data -> export -> optimize -> reference -> lower -> search -> build ->
    prove -> measure -> keep -> describe -> report

This is the only file that knows the order. An engine that fails at any step costs itself alone: it
is kept under no release name, the manifest says what failed, and the command ends with exit code 1
after everything else was finished.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import host
from exporter.artifact import Model, Precision, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.describe import describe_build
from exporter.builds.folder import destination_for, sha256_of, staged
from exporter.builds.given_preprocessing import given_preprocessing, with_file_read
from exporter.builds.interrupted import drop_unproved, keep_aside
from exporter.builds.records import (
    NOT_MEASURED,
    EngineRecord,
    FailedEngine,
    Manifest,
    with_measurement,
)
from exporter.builds.request import ExportRequest
from exporter.builds.run import Run
from exporter.builds.unused import refuse_unused_by_model
from exporter.errors import BuildError, ExporterError, Interrupted
from exporter.graph.bake import with_images
from exporter.graph.equality import why_not_proved
from exporter.graph.lower import check_kept
from exporter.graph.optimize import OptimizedModel, optimize
from exporter.graph.to_onnx import export
from exporter.images.contract import with_contract
from exporter.images.samples import Samples, compared_on, open_data
from exporter.lowerings import (
    LoweredGraph,
    Lowerings,
    calibrate_ranges,
    key_of,
    make_lowerings,
    save_portable_files,
)
from exporter.measure.stage import measure_engines
from exporter.measure.timing import MachineCeilings
from exporter.mixing.stage import check_searchable, search_mixed, with_repair_hint
from exporter.models.live_module import LiveModule, from_module
from exporter.models.sources import define
from exporter.passes.blocks import GraphFacts, find_residual_blocks
from exporter.plan import plan
from exporter.progress import Clock, Progress
from exporter.prove.certificate import Scope
from exporter.prove.engine import Proof, check_engine
from exporter.prove.failed_gates import failed_gates, receipt_note
from exporter.prove.limits import LIMITS
from exporter.prove.read_back import receipt_of
from exporter.prove.reference import Reference, make_reference, save_goldens
from exporter.prove.reference_device import check_device
from exporter.report import write_report
from exporter.targets import (
    BuildOptions,
    Session,
    Target,
    get_target,
    settings_of,
)
from exporter.targets.ort.session import open_graph

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Outcome:
    """A finished build; `manifest.failures` says what did not pass in it."""

    folder: Path
    manifest: Manifest


def export_model(
    request: ExportRequest, progress: Progress, live: LiveModule | None = None
) -> Outcome:
    """The main job: a model to verified engines, a manifest and a report.

    `live` is the model, where a program hands it over; else the request names it.

    Raises:
        UsageError: the request or an input cannot be used; nothing was written.
        BuildError: a step that all engines need failed; nothing was written.
        Interrupted: by Ctrl-C, after engines were proved; they are kept beside the destination.
    """
    host.check_single_onnxruntime()
    request = with_file_read(request)
    planned = plan(request)
    destination = destination_for(request.out, request.source)
    clock = Clock()
    model = define_model(request, live, clock, progress)
    refuse_unused_by_model(request, model.spec)
    check_device(request.reference_device, model)
    data = open_data(model.spec, request.data, seed=request.seed, progress=progress)
    for note in (*planned.notes, *model.notes, *data.notes):
        progress.note(note)
    with opened_run(request, destination, model.spec.name, clock, progress) as run:
        network = optimize_model(run, model, export_to_onnx(run, model))
        check_kept(network.graph, request.keep)
        save_portable_files(run, network.graph)
        network, reference = make_goldens(run, network, data.evaluation)
        check_searchable(request, reference)
        calibration = data.calibration.take(request.calibration_samples)
        wanted = [
            key_of(target.name, precision, target.dialect(precision.base))
            for target, precision in planned.pairs
        ]
        ranges = calibrate_ranges(run, network.graph, calibration, wanted)
        lowerings = make_lowerings(run, network, calibration, ranges, wanted)
        lowerings = search_mixed(run, network, ranges, reference, planned.pairs, lowerings)
        built = [
            build_engine(run, network, target, precision, lowerings)
            for target, precision in planned.pairs
        ]
        failed = planned.failed + tuple(one for one in built if isinstance(one, FailedEngine))
        engines = [engine for engine in built if isinstance(engine, EngineRecord)]
        proved: list[EngineRecord] = []
        ceilings = MachineCeilings.skipped("interrupted")
        interrupted = False
        try:
            for engine in prove_engines(run, engines, reference, lowerings):
                proved.append(engine)
            proved = [
                with_repair_hint(run, network, ranges, reference, engine, lowerings)
                for engine in proved
            ]
            proved, ceilings = measure_build(run, network.model, proved)
        except KeyboardInterrupt:
            if not proved:
                raise
            progress.note("interrupted: what was proved is kept; once more drops it, too")
            failed += drop_unproved(run.folder, engines, proved)
            interrupted = True
        engines = keep_lowered_files(run, proved, lowerings)
        manifest = describe_build(
            run, network.model.spec, data, reference.inputs.count, engines, failed, ceilings
        )
        manifests.write(run.folder.root, manifest)
        manifest = report_build(run, manifest)
        if interrupted:
            raise Interrupted(keep_aside(run.folder, destination, proved))
    return Outcome(destination, manifest)


def define_model(
    request: ExportRequest, live: LiveModule | None, clock: Clock, progress: Progress
) -> Model:
    """What was handed over, or what the request names, with its weights and preprocessing."""
    with clock.time("define"), progress.stage(f"define {request.source}"):
        if live is not None:
            model = from_module(live, request.weights, request.seed)
        else:
            model = define(
                request.source,
                request.weights,
                num_classes=request.num_classes,
                image_size=request.image_size,
                inputs=request.inputs,
                seed=request.seed,
                progress=progress,
            )
        return replace(model, spec=with_contract(model.spec, given_preprocessing(request)))


@contextmanager
def opened_run(
    request: ExportRequest, destination: Path, model: str, clock: Clock, progress: Progress
) -> Iterator[Run]:
    """A folder to build in, which takes the destination's place at the end."""
    with (
        staged(destination, model) as folder,
        tempfile.TemporaryDirectory(dir=folder.root, prefix=".scratch-") as scratch,
    ):
        yield Run(request, folder, Path(scratch), clock, progress)


def export_to_onnx(run: Run, model: Model) -> ir.Model:
    """The graph as PyTorch wrote it; for an ONNX file, as it was given."""
    with run.clock.time("export"), run.progress.stage("export to ONNX"):
        return export(model)


def optimize_model(run: Run, model: Model, exported: ir.Model) -> OptimizedModel:
    """The optimized graph, and the residual blocks that receipts count against."""
    if unproved := why_not_proved():
        run.progress.note(unproved)
    with run.clock.time("optimize"), run.progress.stage("optimize"):
        graph, reports = optimize(exported, model.module)
        blocks = find_residual_blocks(graph)
    spec = replace(model.spec, residual_blocks=tuple(block.name for block in blocks))
    return OptimizedModel(replace(model, spec=spec), graph, GraphFacts.of(graph, reports, blocks))


def make_goldens(
    run: Run, network: OptimizedModel, evaluation: Samples
) -> tuple[OptimizedModel, Reference]:
    """The reference's answers to the evaluation inputs, the first of them kept as goldens.

    With baked preprocessing the network that comes back takes images.
    """
    inputs = compared_on(network.model.spec, evaluation, run.request.samples, run.progress)
    if run.request.bake_preprocess:
        model, inputs = with_images(network.model, inputs, run.progress)
        network = replace(network, model=model)
    with run.clock.time("reference"):
        device = run.request.reference_device
        reference = make_reference(network.model, inputs.held(), run.progress, device)
    save_goldens(run.folder.golden, reference)
    return network, reference


def build_engine(
    run: Run,
    network: OptimizedModel,
    target: Target,
    precision: Precision,
    lowerings: Lowerings,
) -> EngineRecord | FailedEngine:
    """One engine with its receipt, or why there is none."""
    identity = f"{target.name}.{precision}"
    dialect = target.dialect(precision.base)
    lowered = lowerings[key_of(target.name, precision, dialect)]
    if isinstance(lowered, BuildError):
        stage = "search" if precision is Precision.MIXED else "lower"
        return FailedEngine(identity, target.name, precision, stage, str(lowered))
    with run.clock.time("build"), run.progress.stage(f"build {identity}"):
        out = run.folder.engine(target.name, precision)
        out.parent.mkdir(parents=True, exist_ok=True)
        options = BuildOptions(
            allow_fallback=run.request.allow_fallback,
            settings=settings_of(target, run.request.settings, run.request.profile),
            batches=run.request.batches,
            report=run.progress.detail,
        )
        try:
            built = target.build(lowered.path, precision.base, out, options)
        except BuildError as error:
            return FailedEngine(identity, target.name, precision, "build", str(error))
        files = run.folder.share_portable(built.files, precision)
        kept, chosen = run.request.keep, lowered.chosen
        receipt = receipt_of(network.facts, target, precision, files[0], kept, chosen)
        predicted, advice = target.predict(files[0], precision.base, run.request.batches)
    return EngineRecord(
        id=identity,
        target=target.name,
        precision=precision,
        dialect=dialect,
        files=tuple(run.folder.entry(path) for path in files),
        trained=network.model.spec.weights.trained,
        requires=built.requires,
        receipt=receipt,
        parity=Skipped("not checked"),
        notes=(*lowered.notes, *advice),
        predicted=predicted,
        search=lowered.search,
    )


def prove_engines(
    run: Run, engines: Sequence[EngineRecord], reference: Reference, lowerings: Lowerings
) -> Iterator[EngineRecord]:
    """Each engine with parity and accuracy; those that failed a gate are rejected.

    An engine that cannot run here has the certificate of its lowered graph, which is run once for
    all that were built from it.
    """
    of_graphs: dict[Path, Proof] = {}
    for engine in engines:
        target = get_target(engine.target)
        lowered = lowerings[key_of(engine.target, engine.precision, engine.dialect)]
        assert isinstance(lowered, LoweredGraph)
        with run.clock.time("validate"):
            if target.runs_here() is None:
                path = run.folder.root / engine.path
                proof = prove(run, engine, reference, target.open, path)
            else:
                if lowered.path not in of_graphs:
                    of_graphs[lowered.path] = prove(
                        run, engine, reference, open_graph, lowered.path, Scope.GRAPH
                    )
                proof = of_graphs[lowered.path]
        failures = failed_gates(engine.receipt, proof, allow_partial=run.request.allow_partial)
        engine = replace(
            engine,
            parity=proof.parity,
            accuracy=proof.accuracy,
            failures=tuple(failures),
            notes=(*engine.notes, *receipt_note(engine.receipt, proof)),
        )
        yield reject_failed(run, engine)


def prove(
    run: Run,
    engine: EngineRecord,
    reference: Reference,
    open_session: Callable[[Path, int], Session],
    path: Path,
    scope: Scope = Scope.ENGINE,
) -> Proof:
    """The answers of one file against the reference's."""
    return check_engine(
        lambda: open_session(path, run.conditions.threads),
        reference,
        LIMITS[engine.precision, engine.trained],
        scope=scope,
        progress=run.progress,
        title=engine.id,
    )


def reject_failed(run: Run, engine: EngineRecord) -> EngineRecord:
    """The engine; where it failed anything, under names that no runtime will load."""
    if not engine.failures or engine.rejected:
        return engine
    files = tuple(run.folder.reject(file) for file in engine.files)
    return replace(engine, files=files)


def measure_build(
    run: Run, model: Model, engines: Sequence[EngineRecord]
) -> tuple[list[EngineRecord], MachineCeilings]:
    """The engines with latency and profile, all timed in one run; one that dies is rejected."""
    if not run.request.measure:
        skipped = Skipped("not asked for (--no-measure)")
        unmeasured = MachineCeilings.skipped(NOT_MEASURED)
        return [replace(engine, latency=skipped) for engine in engines], unmeasured
    found = measure_engines(
        engines,
        run.folder.root,
        model,
        run.folder.portable_path(Precision.FP32),
        run.conditions,
        run.clock,
        run.progress,
    )
    measured = []
    for engine in engines:
        of_it = found.engines[engine.id]
        engine = with_measurement(engine, of_it)
        if of_it.failure is not None:
            engine = replace(engine, failures=(*engine.failures, f"measure: {of_it.failure}"))
        measured.append(reject_failed(run, engine))
    return measured, found.ceilings


def keep_lowered_files(
    run: Run, engines: Sequence[EngineRecord], lowerings: Lowerings
) -> list[EngineRecord]:
    """The engines, each naming the lowered ONNX file that it was built from.

    Where no engine or portable file is that very file, it is kept under onnx/.
    """
    folder = run.folder
    present = {sha256_of(path): path for path in sorted(folder.root.glob("[!.]*/**/*.onnx"))[::-1]}
    kept = []
    for engine in engines:
        lowered = lowerings[key_of(engine.target, engine.precision, engine.dialect)]
        assert isinstance(lowered, LoweredGraph)
        digest = sha256_of(lowered.path)
        if digest not in present:
            _, _, own = key_of(engine.target, engine.precision, engine.dialect)
            path = folder.lowered_path(engine.precision, engine.dialect, own)
            present[digest] = Path(shutil.copyfile(lowered.path, path))
        relative = present[digest].relative_to(folder.root).as_posix()
        kept.append(replace(engine, built_from=relative))
    return kept


def report_build(run: Run, manifest: Manifest) -> Manifest:
    """Writes the report; what goes wrong there is a failure in the manifest and loses no engine."""
    try:
        with run.progress.stage("report"):
            write_report(run.folder.root, manifest)
    except Exception as error:  # a slip in a template must not cost what minutes have built
        what = str(error) if isinstance(error, ExporterError) else repr(error)
        manifest = replace(manifest, failures=(*manifest.failures, f"report: {what}"))
        manifests.write(run.folder.root, manifest)
    return manifest
