"""What `exporter gate` and `evaluate` ask: a build's or a bundle's engines, and the reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exporter import host
from exporter.artifact import ModelSpec, Precision, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.folder import BuildFolder, find_build, sha256_of
from exporter.builds.records import EngineRecord, Manifest
from exporter.cluster.in_turn import made_in_turn
from exporter.errors import (
    BuildError,
    ExporterError,
    InputError,
    NotReproducedError,
    UsageError,
    unknown_name,
)
from exporter.graph.bake import taking_images
from exporter.images.samples import Samples
from exporter.models.class_names import class_names
from exporter.prove.limits import LIMITS
from exporter.prove.paired import Scores
from exporter.prove.parity import compare, rows_from
from exporter.prove.reference import BATCH, Reference, as_written, read_goldens, run_all
from exporter.runtime import Engine, ServingError, load
from exporter.runtime.bundle_files import SUMS, BundleFiles
from exporter.runtime.description import LABELS, MANIFEST
from exporter.targets import MachineKind, device_of, get_target, why_not_here

if TYPE_CHECKING:
    from exporter.prove.distance import Array, Floats


@dataclass(frozen=True)
class Subject:
    """What is gated."""

    manifest: Manifest
    folder: Path | None
    """The build's; None: it is a bundle, which is not changed."""
    classes: tuple[str, ...]
    """A name for each class: its number, where it has no other."""
    reference: str
    """In words."""
    near_tie: float
    """The reference cannot tell two classes apart whose scores differ by no more than this."""
    answers_of_reference: Scores
    engines: Mapping[str, Scores]
    not_here: Mapping[str, str]
    """Each engine that is not asked, and why."""
    broken: Mapping[str, str]
    """Each that should answer and does not load."""
    batch: int

    @property
    def model(self) -> ModelSpec:
        return self.manifest.model

    def described(self) -> Subject:
        """The same without what is loaded, so that this is freed; nothing answers any more."""
        return replace(self, engines={}, answers_of_reference=_closed)


def _closed(_: Array) -> Floats:
    raise BuildError("the engines are closed")


@contextmanager
def opened_subject(
    given: Path, wanted: Sequence[str], threads: int | None, workers: int = 1
) -> Iterator[Subject]:
    """The build or the bundle, its engines loaded for as long as it is asked.

    Each is loaded for so many threads that ask at a time; those of a GPU once.

    Raises:
        UsageError: an engine that is not there, or a network without scores of classes.
        InputError: neither a build nor a bundle is there, or its files were changed.
        NotReproducedError: the reference no longer answers as when the build was made.
    """
    threads = threads or host.usable_threads()
    with ExitStack() as stack:
        if given.is_file() or (given / SUMS).is_file():
            yield _bundle(given, wanted, threads, workers, stack)
        else:
            yield _build(find_build(given), wanted, threads, workers, stack)


def _build(
    folder: Path, wanted: Sequence[str], threads: int, workers: int, stack: ExitStack
) -> Subject:
    manifest = manifests.read(folder)
    model = manifest.model
    place = _scores(model)
    _check_wanted(wanted, manifest)
    files = BuildFolder(folder, model.name)
    goldens = read_goldens(files.golden, model)
    _, columns, golden_scores = list(goldens.each())[place]
    graph = partial(_graph, files.portable_path(Precision.FP32), manifest, goldens, threads)
    reference = made_in_turn(graph, workers)
    count = golden_scores.outputs.shape[1]
    named = class_names(model.weights.classes) if model.weights.classes else ()
    engines: dict[str, Scores] = {}
    not_here: dict[str, str] = {}
    broken: dict[str, str] = {}

    def scores(run: Callable[[Array], Array]) -> Scores:
        return lambda batch: run_all(run, Samples.of("", batch), goldens.fixed_batch)[:, columns]

    for engine in _named(manifest.engines, wanted):
        reason = _why_not(engine)
        if reason:
            not_here[engine.id] = reason
            continue
        _check_files(folder, engine)
        rows = partial(_rows, folder, engine, goldens, threads, stack)
        try:
            engines[engine.id] = scores(made_in_turn(rows, _loads(engine, workers)))
        except BuildError as error:
            broken[engine.id] = str(error)
    return Subject(
        manifest=manifest,
        folder=folder,
        classes=named if len(named) == count else tuple(map(str, range(count))),
        reference="the float32 graph of the build, ONNX Runtime's optimizations off",
        near_tie=2 * golden_scores.own_max_abs,
        answers_of_reference=scores(reference),
        engines=engines,
        not_here=not_here,
        broken=broken,
        batch=goldens.fixed_batch or BATCH,
    )


def _rows(
    folder: Path, engine: EngineRecord, goldens: Reference, threads: int, stack: ExitStack
) -> Callable[[Array], Array]:
    session = get_target(engine.target).open(folder / engine.path, threads)
    return rows_from(stack.enter_context(session), goldens)


def _graph(
    path: Path, manifest: Manifest, goldens: Reference, threads: int
) -> Callable[[Array], Array]:
    """The build's own float32 graph, once it has answered the goldens as eager PyTorch did.

    The file knows nothing of baked preprocessing: images are then normalised in front of it.
    """
    model, contract = manifest.model, manifest.model.preprocessing
    if not path.is_file():
        raise InputError(f"{path} is missing, the reference of the gate; export the model again")
    try:
        graph = path.read_bytes()
        if manifest.request.bake_preprocess and not isinstance(contract, Skipped):
            graph = taking_images(graph, contract)
        run = as_written(graph, model, threads)
    except Exception as error:  # whatever ONNX Runtime raises on a damaged file
        raise InputError(f"{path} cannot be loaded ({error}); export the model again") from None
    outputs = run_all(run, goldens.inputs, goldens.fixed_batch)
    parity = compare(outputs, goldens, LIMITS[Precision.FP32, model.weights.trained])
    if not parity.passed:
        raise NotReproducedError(
            f"{path} does not answer the goldens as {model.name} did ({parity.failures[0]}); "
            "export the model again"
        )
    return run


def _bundle(
    given: Path, wanted: Sequence[str], threads: int, workers: int, stack: ExitStack
) -> Subject:
    try:
        files = BundleFiles(given)
        classes = tuple(files.read(LABELS).decode("utf-8").splitlines())
        content = json.loads(files.read(MANIFEST))
    except (ServingError, ValueError) as error:
        raise InputError(str(error)) from None
    content.pop("bundle", None)
    manifest = manifests.from_json(content, str(given / MANIFEST))
    _check_wanted(wanted, manifest)
    place = _scores(manifest.model)
    name = manifest.model.outputs[place].name
    engines: dict[str, Scores] = {}
    not_here: dict[str, str] = {}
    broken: dict[str, str] = {}
    floats = [one for one in manifest.engines if one.precision is Precision.FP32]
    float32 = next((one for one in floats if _why_not(one) is None), None)
    if float32 is None:
        raise UsageError(
            f"{given} holds no FP32 engine that runs here, and the others have nothing to be "
            "compared with; pack one with them, or gate the build"
        )

    def served(engine: EngineRecord) -> Scores:
        def answers() -> Scores:
            loaded = load(given, engine=engine.id, threads=threads)
            return _served(stack.enter_context(loaded), name)

        return made_in_turn(answers, _loads(engine, workers))

    others = [one for one in manifest.engines if one is not float32]
    for engine in _named(others, wanted):
        reason = _why_not(engine)
        if reason:
            not_here[engine.id] = reason
            continue
        try:
            engines[engine.id] = served(engine)
        except ServingError as error:
            broken[engine.id] = str(error)
    try:
        reference = served(float32)
    except ServingError as error:
        raise NotReproducedError(f"the reference {float32.id} does not load: {error}") from None
    own = float32.parity
    return Subject(
        manifest=manifest,
        folder=None,
        classes=classes,
        reference=f"{float32.id} of the bundle",
        near_tie=0.0 if isinstance(own, Skipped) else 2 * own.max_abs,
        answers_of_reference=reference,
        engines=engines,
        not_here=not_here,
        broken=broken,
        batch=BATCH,
    )


def _served(engine: Engine, output: str) -> Scores:
    def run(batch: Array) -> Floats:
        names = batch.dtype.names
        try:
            found: Any = engine.run({one: batch[one] for one in names} if names else batch)
        except ServingError as error:
            raise BuildError(str(error)) from None
        scores = found[output] if isinstance(found, dict) else found
        return np.asarray(scores, np.float64)

    return run


def _loads(engine: EngineRecord, workers: int) -> int:
    """How often it is loaded for so many threads: a GPU is asked by one at a time."""
    return 1 if device_of(engine.target) is MachineKind.GPU else workers


def _scores(model: ModelSpec) -> int:
    if model.scores is None:
        raise UsageError(
            f"{model.name} answers no scores of classes, and the gate is about classes; "
            "`exporter validate` compares features"
        )
    return model.scores


def _check_wanted(wanted: Sequence[str], manifest: Manifest) -> None:
    known = [engine.id for engine in manifest.engines]
    for name in wanted:
        if name not in known:
            raise unknown_name("engine", name, known)


def _named(engines: Sequence[EngineRecord], wanted: Sequence[str]) -> list[EngineRecord]:
    return [engine for engine in engines if not wanted or engine.id in wanted]


def _why_not(engine: EngineRecord) -> str | None:
    if engine.rejected:
        return "it was rejected when it was built"
    try:
        absent = why_not_here(engine.target, engine.requires)
    except ExporterError as error:
        return str(error)
    return None if absent is None else absent.skipped


def _check_files(folder: Path, engine: EngineRecord) -> None:
    for file in engine.files:
        path = folder / file.path
        if not path.is_file() or sha256_of(path) != file.sha256:
            raise InputError(f"{path} is not the file that was validated; export the model again")
