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
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from exporter import host
from exporter.artifact import BlockDrift, Precision
from exporter.builds import manifest
from exporter.builds.folder import REJECTED
from exporter.errors import BuildError
from exporter.graph.files import load, save
from exporter.passes.blocks import ResidualBlock, find_residual_blocks
from exporter.passes.expose_tensors import expose, isolate
from exporter.progress import Progress
from exporter.prove.parity import relative_l2, sqnr_db
from exporter.runtime.images import Normalisation
from exporter.targets import Array, BuildOptions, Session, Target, get_target
from exporter.targets.ort.session import open_graph

if TYPE_CHECKING:
    import onnx_ir as ir

COPY_TOLERANCE: Final = 1e-5
"""Relative difference allowed between a debug copy's final output and its engine's."""
INEXACT_COPIES: Final[Mapping[tuple[str, Precision], float]] = MappingProxyType(
    # OpenVINO sums a shortcut in place, inside the convolution; a block output that is also an
    # output of the graph cannot be overwritten, so there the copy sums apart and rounds once more.
    {("openvino", Precision.INT8): 3e-2}
)

Exact = dict[str, Array]


def add_drift(
    folder: Path, described: dict[str, Any], threads: int | None, progress: Progress
) -> list[str]:
    """Adds `parity.blocks` to every engine of a manifest that runs here; returns failures.

    The golden inputs are the data. Engines that cannot run here, and models without residual
    blocks, are left as they are.
    """
    name = described["model"]["name"]
    portable = load(folder / "onnx" / f"{name}.fp32.onnx")
    blocks = find_residual_blocks(portable)
    if not blocks:
        progress.note(f"{name} has no residual blocks: there is no drift to tell")
        return []
    threads = threads or host.usable_threads()
    with np.load(folder / "golden.npz", allow_pickle=False) as goldens:
        inputs, expected = goldens["inputs"], goldens["outputs"]
    tensors = sorted({tensor for block in blocks for tensor in (block.input, block.output)})
    failures = []
    with tempfile.TemporaryDirectory(prefix="exporter-drift-") as scratch:
        prepared = _prepared(inputs, described["model"]["preprocessing"])
        exact = _exact_values(portable, tensors, prepared, expected, Path(scratch), threads)
        for engine in described["engines"]:
            target = get_target(engine["target"])
            if target.runs_here() is not None or engine["path"].endswith(REJECTED):
                continue
            with progress.stage(f"drift of {engine['id']}"):
                try:
                    drift = engine_drift(
                        folder, engine, target, blocks, inputs, exact, Path(scratch), threads
                    )
                except BuildError as error:
                    failures.append(f"{engine['id']}: drift: {error}")
                    continue
            engine["parity"]["blocks"] = manifest.plain(drift)
    return failures


def _prepared(inputs: Array, preprocessing: Mapping[str, Any]) -> Array:
    """What the portable graph takes: images normalised, where the engines take images."""
    if inputs.dtype != np.uint8 or "skipped" in preprocessing:
        return inputs
    normalise = Normalisation(
        preprocessing["mean"], preprocessing["std"], dtype=np.dtype(np.float32), nhwc=False
    )
    return normalise(inputs)


def engine_drift(
    folder: Path,
    engine: Mapping[str, Any],
    target: Target,
    blocks: tuple[ResidualBlock, ...],
    inputs: Array,
    exact: Exact,
    scratch: Path,
    threads: int,
) -> tuple[BlockDrift, ...]:
    """The drift of one engine at every block.

    Raises:
        BuildError: a debug copy cannot be built, or its final output is not the engine's.
    """
    graph = folder / engine["graph"]
    precision = Precision(engine["precision"])

    exposed_graph = load(graph)
    _, names = expose(exposed_graph, [block.output for block in blocks])
    with _built(exposed_graph, target, precision, scratch / "exposed", threads) as copy:
        answers = copy.run_named({_first_input(exposed_graph): inputs})
    with target.open(folder / engine["path"], threads) as release:
        final = release.run(inputs)
    tolerance = INEXACT_COPIES.get((target.name, precision), COPY_TOLERANCE)
    _check_copy(engine["id"], final, answers[_first_output(exposed_graph)], tolerance)

    alone_graph = load(graph)
    isolate(alone_graph, {block.name: (block.input, block.output) for block in blocks})
    feeds = {f"exact.{block.input}": exact[block.input] for block in blocks}
    with _built(alone_graph, target, precision, scratch / "alone", threads) as copy:
        alone = copy.run_named(feeds)

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


def _exact_values(
    portable: ir.Model,
    tensors: list[str],
    inputs: Array,
    expected: Array,
    scratch: Path,
    threads: int,
) -> Exact:
    """The FP32 graph's own values of the given tensors, checked at its end against the goldens."""
    copy = portable.clone()
    source = _first_input(copy)
    inner = [tensor for tensor in tensors if tensor != source]
    _, names = expose(copy, inner)
    path = scratch / "exact.onnx"
    save(copy, path)
    with open_graph(path, threads) as session:
        values = session.run_named({source: inputs})
    _check_copy("the FP32 graph", expected, values[_first_output(copy)], COPY_TOLERANCE)
    exact = {tensor: values[names[tensor]] for tensor in inner}
    return {**exact, source: inputs}


def _built(
    graph: ir.Model, target: Target, precision: Precision, out: Path, threads: int
) -> Session:
    path = out.with_suffix(".graph.onnx")
    save(graph, path)
    built = target.build(path, precision, out, BuildOptions())
    return target.open(built.files[0], threads)


def _check_copy(name: str, expected: Array, answer: Array, tolerance: float) -> None:
    difference = relative_l2(answer.astype(np.float64) - expected, expected)
    if difference > tolerance:
        raise BuildError(
            f"the debug copy of {name} answers differently from it (relative difference "
            f"{difference:.1e}, allowed {tolerance:g}): its drift would not be the engine's"
        )


def _first_input(graph: ir.Model) -> str:
    return str(graph.graph.inputs[0].name)


def _first_output(graph: ir.Model) -> str:
    return str(graph.graph.outputs[0].name)
