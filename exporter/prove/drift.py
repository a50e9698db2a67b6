"""Where accuracy is lost: the error at each residual block's output, built up and added.

*Built up* is the error of the engine's own value at a block's output, with everything before it in
it. *Added* is the error of that block alone: it is fed with the exact input. Both are against the
FP32 graph as it was exported, run with ONNX Runtime's optimizations off, whose final output is
checked against eager's goldens first.

The release engine has no inner outputs, so debug copies of its lowered graph are built for the same
target: one with the block outputs exposed, whose final output must equal the engine's, and one cut
into its blocks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact import Channels, Engine, ModelSpec, Preprocessing, Skipped
from exporter.errors import BuildError, ExporterError
from exporter.graph.files import load, save
from exporter.passes.blocks import ResidualBlock, find_residual_blocks
from exporter.passes.expose_tensors import expose, isolate
from exporter.progress import Progress
from exporter.prove.certificate import BlockDrift
from exporter.prove.distance import relative_l2, sqnr_db
from exporter.prove.outputs import parts_of
from exporter.runtime.description import GOLDEN
from exporter.runtime.goldens import read_arrays, with_inputs_joined
from exporter.runtime.images import Normalisation
from exporter.runtime.inputs import by_name
from exporter.runtime.layout import Layout, layout_of
from exporter.runtime.outputs import apart
from exporter.targets import (
    COPY_TOLERANCE,
    Array,
    BuildOptions,
    Session,
    Target,
    get_target,
    why_not_here,
)
from exporter.targets.ort.session import open_graph

if TYPE_CHECKING:
    import onnx_ir as ir

Exact = dict[str, Array]


def measure_drift(
    folder: Path, engines: Sequence[Engine], spec: ModelSpec, threads: int, progress: Progress
) -> Drift:
    """The drift of every engine that runs here, on the golden inputs.

    Engines that cannot run here, and models without residual blocks, have none.
    """
    portable = load(folder / "onnx" / f"{spec.name}.fp32.onnx")
    blocks = find_residual_blocks(portable)
    if not blocks:
        progress.note(f"{spec.name} has no residual blocks: there is no drift to tell")
        return Drift({}, ())
    tensors = sorted({tensor for block in blocks for tensor in (block.input, block.output)})
    found, failures = {}, []
    with tempfile.TemporaryDirectory(prefix="exporter-drift-") as scratch:
        place = Place(folder, Path(scratch), threads, spec.input.shape[0])
        inputs, exact = exact_values(portable, tensors, spec, place)
        for engine in engines:
            if engine.rejected or why_not_here(engine.target, engine.requires):
                continue
            try:
                target = get_target(engine.target)
                with progress.stage(f"drift of {engine.id}"):
                    found[engine.id] = engine_drift(engine, target, blocks, inputs, exact, place)
            except ExporterError as error:
                failures.append(f"{engine.id}: drift: {error}")
    return Drift(found, tuple(failures))


@dataclass(frozen=True)
class Drift:
    """What was found of a build's engines."""

    blocks: Mapping[str, tuple[BlockDrift, ...]]
    """By the engine's id."""
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where and how debug copies are built and run."""

    folder: Path
    """The build."""
    scratch: Path
    threads: int
    batch: int | str
    """The model's batch: a fixed size, or the name of a dynamic one."""

    def run(self, session: Session, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output for (N, ...) inputs, in batches of the size that the model takes.

        What is missing from the last batch is filled up with its last input.
        """
        count = len(next(iter(feeds.values())))
        size = self.batch if isinstance(self.batch, int) else count
        parts = []
        for start in range(0, count, size):
            rows = np.minimum(np.arange(start, start + size), count - 1)
            parts.append(session.run_named({name: feed[rows] for name, feed in feeds.items()}))
        return {name: np.concatenate([p[name] for p in parts])[:count] for name in parts[0]}


def _prepared(inputs: Array, preprocessing: Preprocessing | Skipped, layout: Layout) -> Array:
    """What the portable graph takes: images normalised, where the engines take images."""
    if inputs.dtype != np.uint8 or isinstance(preprocessing, Skipped):
        return inputs
    normalise = Normalisation(
        preprocessing.mean,
        preprocessing.std,
        dtype=np.dtype(np.float32),
        layout=layout,
        reversed=preprocessing.channels is Channels.BGR,
    )
    return normalise(inputs)


def engine_drift(
    engine: Engine,
    target: Target,
    blocks: tuple[ResidualBlock, ...],
    inputs: Array,
    exact: Exact,
    place: Place,
) -> tuple[BlockDrift, ...]:
    """The drift of one engine at every block.

    Raises:
        BuildError: a debug copy cannot be built, or its final output is not the engine's.
    """
    lowered_path = place.folder / engine.built_from
    exposed_graph = load(lowered_path)
    given, finals = _first_input(exposed_graph), _outputs(exposed_graph)
    _, names = expose(exposed_graph, [block.output for block in blocks])
    with _built(exposed_graph, target, engine, place, "exposed") as copy:
        answers = place.run(copy, by_name(inputs, given))
    with target.open(place.folder / engine.path, place.threads) as release:
        served = place.run(release, by_name(inputs, given))
    tolerance = target.copy_tolerance(engine.precision.base)
    for final in finals:
        _check_copy(engine.id, served[final], answers[final], tolerance)

    alone_graph = load(lowered_path)
    isolate(alone_graph, [block.input for block in blocks], [block.output for block in blocks])
    feeds = {f"exact.{block.input}": exact[block.input] for block in blocks}
    with _built(alone_graph, target, engine, place, "alone") as copy:
        alone = place.run(copy, feeds)

    drift = []
    for block in blocks:
        truth = exact[block.output].astype(np.float64)
        built_up = answers[names[block.output]] - truth
        added = alone[names[block.output]] - truth
        drift.append(
            BlockDrift(
                name=block.name,
                built_up_rel_l2=relative_l2(built_up, truth),
                built_up_sqnr_db=sqnr_db(built_up, truth),
                added_rel_l2=relative_l2(added, truth),
                added_sqnr_db=sqnr_db(added, truth),
            )
        )
    return tuple(drift)


def exact_values(
    portable: ir.Model, tensors: Sequence[str], spec: ModelSpec, place: Place
) -> tuple[Array, Exact]:
    """The golden inputs as engines take them, and the FP32 graph's own values of some tensors.

    The graph's answers are checked against the goldens.

    Raises:
        BuildError: they are others.
    """
    goldens = with_inputs_joined(read_arrays(place.folder / GOLDEN))
    layout = layout_of(list(portable.graph.inputs[0].shape or ())[1:])
    inputs = _prepared(goldens["inputs"], spec.preprocessing, layout)
    expected = _by_output(goldens["outputs"], portable, spec)
    copy = portable.clone()
    source, finals = _first_input(copy), _outputs(copy)
    feeds = by_name(inputs, source)
    inner = [tensor for tensor in tensors if tensor not in feeds]
    _, names = expose(copy, inner)
    path = place.scratch / "exact.onnx"
    save(copy, path)
    with open_graph(path, place.threads) as session:
        values = place.run(session, feeds)
    for final in finals:
        _check_copy("the FP32 graph", expected[final], values[final], COPY_TOLERANCE)
    exact = {tensor: values[names[tensor]] for tensor in inner}
    return goldens["inputs"], {**exact, **feeds}


def _built(graph: ir.Model, target: Target, engine: Engine, place: Place, name: str) -> Session:
    """A debug copy, with the fallback that the engine's own build was allowed."""
    out = place.scratch / name
    path = out.with_suffix(".graph.onnx")
    save(graph, path)
    options = BuildOptions(allow_fallback=bool(engine.requires.get("allow_fallback")))
    built = target.build(path, engine.precision.base, out, options)
    return target.open(built.files[0], place.threads)


def _check_copy(name: str, expected: Array, answer: Array, tolerance: float) -> None:
    expected = expected.reshape(answer.shape)
    difference = relative_l2(answer.astype(np.float64) - expected, expected)
    if difference > tolerance:
        raise BuildError(
            f"the debug copy of {name} answers differently from it (relative difference "
            f"{difference:.1e}, allowed {tolerance:g}): its drift would not be the engine's"
        )


def _first_input(graph: ir.Model) -> str:
    return str(graph.graph.inputs[0].name)


def _outputs(graph: ir.Model) -> list[str]:
    return [str(value.name) for value in graph.graph.outputs]


def _by_output(rows: Array, graph: ir.Model, spec: ModelSpec) -> Exact:
    """(N, values) of the goldens -> each output's by name."""
    if not spec.other_outputs:
        return {_outputs(graph)[0]: rows}
    return apart(rows, parts_of(spec))
