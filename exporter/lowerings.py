"""Every lowered graph that a build needs, made once, before the engines that share it.

INT8 and FP8 are calibrated once for all dialects. A lowering that fails costs the engines that need
it, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import host
from exporter.artifact import Dialect, PassReport, Precision
from exporter.builds.run import Run
from exporter.errors import BuildError
from exporter.graph.bake import bake
from exporter.graph.files import save
from exporter.graph.lower import LEAVE_FLOATS, Lowering, lower
from exporter.graph.optimize import OptimizedModel
from exporter.passes.qdq.ranges import Ranges
from exporter.prove.failed_gates import notes_of
from exporter.quantize.calibrate import calibrate
from exporter.quantize.correct import CORRECTIONS, correct

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.images.samples import Samples

Key = tuple[Precision, Dialect]


@dataclass(frozen=True)
class LoweredGraph:
    """The ONNX file that engines are built from."""

    path: Path
    notes: tuple[str, ...]
    """What the lowering left alone or lost, in words."""


Lowerings = dict[Key, LoweredGraph | BuildError]
"""Each lowered graph, or why there is none."""


def make_lowerings(
    run: Run, network: OptimizedModel, calibration: Samples, wanted: Iterable[Key]
) -> Lowerings:
    """The lowered graphs of these precisions and dialects, each written to the scratch folder."""
    keys = list(dict.fromkeys(wanted))
    made: Lowerings = {}
    ranges: Ranges | BuildError | None = None
    if any(precision.quantized for precision, _ in keys):
        ranges = _ranges(run, network.graph, calibration)
    for precision, dialect in keys:
        if precision.quantized and isinstance(ranges, BuildError):
            made[precision, dialect] = ranges
            continue
        try:
            graph, reports = _lower(run, network.graph, precision, dialect, ranges)
            if precision.quantized:
                with run.clock.time("correct"):
                    how = dict(CORRECTIONS[run.request.correction])
                    if precision is Precision.FP8:  # its steps differ from code to code
                        how["rounding"] = False
                    graph = correct(graph, network.graph, calibration, run.progress, **how)
            if run.request.bake_preprocess:
                graph, baked = bake(network.model, graph, network.graph)
                reports = (*reports, baked)
            path = run.scratch / f"{precision}.{dialect}.onnx"
            save(graph, path)
            made[precision, dialect] = LoweredGraph(path, notes_of(reports))
        except BuildError as error:
            made[precision, dialect] = error
    return made


def save_portable_files(run: Run, graph: ir.Model) -> None:
    """onnx/: standard ONNX in FP32 and FP16, whatever the targets are.

    A graph that has no FP16 form costs that file alone; who asks for FP16 gets the reason there.
    """
    path = run.folder.portable_path(Precision.FP32)
    path.parent.mkdir()
    save(graph, path)
    try:
        half, _ = lower(graph, Lowering(Precision.FP16, Dialect.FLOAT))
    except BuildError as error:
        run.progress.note(f"there is no portable FP16 file: {error}")
        return
    save(half, run.folder.portable_path(Precision.FP16))


def _ranges(run: Run, graph: ir.Model, calibration: Samples) -> Ranges | BuildError:
    try:
        with run.clock.time("calibrate"):
            return calibrate(
                graph,
                calibration,
                method=run.request.calibration_method,
                progress=run.progress,
                cache=host.cache_folder("ranges"),
            )
    except BuildError as error:
        return error


def _lower(
    run: Run,
    graph: ir.Model,
    precision: Precision,
    dialect: Dialect,
    ranges: Ranges | BuildError | None,
) -> tuple[ir.Model, tuple[PassReport, ...]]:
    request = run.request
    float_type = request.between if dialect in LEAVE_FLOATS else Precision.FP32
    with run.clock.time("lower"), run.progress.stage(f"lower to {precision} {dialect}"):
        return lower(
            graph,
            Lowering(
                precision,
                dialect,
                ranges=ranges if isinstance(ranges, Ranges) else None,
                keep=request.keep,
                float_type=float_type,
                reduce_range=request.reduce_range,
            ),
        )
