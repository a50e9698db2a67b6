"""Every lowered graph that a build needs, made once, before the engines that share it.

INT8 and FP8 are calibrated once for all dialects. A lowering that fails costs the engines that need
it, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
from exporter.search.record import MixedSearch

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.images.samples import Samples

Key = tuple[Precision, Dialect, str]
"""Precision, dialect, and the target whose own it is; "": all targets' of that dialect."""


def key_of(target: str, precision: Precision, dialect: Dialect) -> Key:
    """Names a lowered graph; one in `mixed` is of the target on which its blocks were timed."""
    return precision, dialect, target if precision is Precision.MIXED else ""


@dataclass(frozen=True)
class LoweredGraph:
    """The ONNX file that engines are built from."""

    path: Path
    notes: tuple[str, ...]
    """What the lowering left alone or lost, in words."""
    unbaked: Path
    """The same before it takes images; where nothing is baked, it is `path`."""
    chosen: Mapping[str, Precision] = field(default_factory=dict)
    """In which float type a receipt must find what a search keeps, by name."""
    search: MixedSearch | None = None
    """How that was found."""


Lowerings = dict[Key, LoweredGraph | BuildError]
"""Each lowered graph, or why there is none."""


def make_lowerings(
    run: Run,
    network: OptimizedModel,
    calibration: Samples,
    ranges: Ranges | BuildError | None,
    wanted: Iterable[Key],
) -> Lowerings:
    """The lowered graphs of these precisions and dialects, each written to the scratch folder.

    Of `mixed` it is what a search starts from: all in INT8.
    """
    keys = list(dict.fromkeys(wanted))
    made: Lowerings = {}
    lowered: dict[tuple[Precision, Dialect], tuple[ir.Model, tuple[PassReport, ...]]] = {}
    for key in keys:
        precision, dialect, _ = key
        if precision.quantized and isinstance(ranges, BuildError):
            made[key] = ranges
            continue
        try:
            base = precision.base, dialect
            if base not in lowered:
                lowered[base] = _corrected(run, network.graph, *base, ranges, calibration)
            path = run.scratch / f"{precision}.{dialect}.onnx"
            made[key] = save_lowered(run, network, *lowered[base], path)
        except BuildError as error:
            made[key] = error
    return made


def save_lowered(
    run: Run,
    network: OptimizedModel,
    graph: ir.Model,
    reports: tuple[PassReport, ...],
    path: Path,
) -> LoweredGraph:
    """Writes a lowered graph, with the preprocessing in it where that is asked for.

    Raises BuildError where it has no valid form with it.
    """
    unbaked = path
    if run.request.bake_preprocess:
        unbaked = path.with_suffix(".unbaked.onnx")
        save(graph, unbaked)
        graph, baked = bake(network.model, graph, network.graph)
        reports = (*reports, baked)
    save(graph, path)
    return LoweredGraph(path, notes_of(reports), unbaked)


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


def calibrate_ranges(
    run: Run, graph: ir.Model, calibration: Samples, wanted: Iterable[Key]
) -> Ranges | BuildError | None:
    """The ranges that all 8-bit graphs share; None where none of those wanted is in 8 bits."""
    if not any(precision.quantized for precision, _, _ in wanted):
        return None
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


def lowered_to(
    run: Run, precision: Precision, dialect: Dialect, ranges: Ranges | BuildError | None
) -> Lowering:
    """What the request makes of a precision in a dialect."""
    request = run.request
    return Lowering(
        precision,
        dialect,
        ranges=ranges if isinstance(ranges, Ranges) else None,
        keep=request.keep,
        float_type=request.between if dialect in LEAVE_FLOATS else Precision.FP32,
        reduce_range=request.reduce_range,
    )


def _corrected(
    run: Run,
    graph: ir.Model,
    precision: Precision,
    dialect: Dialect,
    ranges: Ranges | BuildError | None,
    calibration: Samples,
) -> tuple[ir.Model, tuple[PassReport, ...]]:
    with run.clock.time("lower"), run.progress.stage(f"lower to {precision} {dialect}"):
        lowered, reports = lower(graph, lowered_to(run, precision, dialect, ranges))
    if precision.quantized:
        with run.clock.time("correct"):
            how = dict(CORRECTIONS[run.request.correction])
            if precision is Precision.FP8:  # its steps differ from code to code
                how["rounding"] = False
            lowered = correct(lowered, graph, calibration, run.progress, **how)
    return lowered, reports
