"""Which passes lower the optimized graph to a precision in a dialect."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from onnx_ir.passes import common

from exporter.artifact import Dialect, PassReport, Precision
from exporter.errors import UsageError, unknown_name
from exporter.optimize import check
from exporter.passes.convert_fp16 import convert_fp16
from exporter.passes.fuse_residual import fuse_residual as fuse

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.ranges import Ranges

Keep = tuple[str, ...]


def _to_fp16(graph: ir.Model, _dialect: Dialect, _ranges: Ranges | None, keep: Keep) -> PassReport:
    return convert_fp16(graph, keep)


def _to_int8(graph: ir.Model, dialect: Dialect, ranges: Ranges | None, keep: Keep) -> PassReport:
    from exporter.passes.insert_qdq import insert_qdq

    if ranges is None:
        raise UsageError(f"INT8 in {dialect} needs calibrated ranges; give `ranges`")
    return insert_qdq(graph, ranges, dialect, keep=keep)


Step = Callable[["ir.Model", Dialect, "Ranges | None", Keep], PassReport]

LOWERINGS: dict[tuple[Precision, Dialect], tuple[Step, ...]] = {
    (Precision.FP32, Dialect.FLOAT): (),
    (Precision.FP16, Dialect.FLOAT): (_to_fp16,),
    (Precision.INT8, Dialect.U8_ASYMMETRIC): (_to_int8,),
    (Precision.INT8, Dialect.S8_SYMMETRIC): (_to_int8,),
}


def lower(
    graph: ir.Model,
    precision: Precision,
    dialect: Dialect,
    *,
    fuse_residual: bool,
    ranges: Ranges | None = None,
    keep: Keep = (),
) -> tuple[ir.Model, tuple[PassReport, ...]]:
    """The graph in the precision and dialect, and what each pass did; the given graph stays.

    `keep` names nodes, or modules with all nodes inside them, that stay in float32.

    Raises:
        UsageError: no such lowering, ranges missing, or a name in `keep` that the graph has not.
        BuildError: the result is not valid ONNX.
    """
    if (precision, dialect) not in LOWERINGS:
        known = ", ".join(f"{p} {d}" for p, d in LOWERINGS)
        raise UsageError(f"no lowering to {precision} in the dialect {dialect}; known: {known}")
    check_kept(graph, keep)
    lowered = graph.clone()
    reports = [step(lowered, dialect, ranges, keep) for step in LOWERINGS[precision, dialect]]
    if fuse_residual:
        reports.append(fuse(lowered))
    common.ShapeInferencePass()(lowered)
    check(lowered)
    return lowered, tuple(reports)


def check_kept(graph: ir.Model, keep: Keep) -> None:
    """Raises UsageError for a name that is neither a node nor a module of the graph."""
    known: set[str] = set()
    for node in graph.graph:
        parts = str(node.name).split(".")
        known.update(".".join(parts[: n + 1]) for n in range(len(parts)))
    for name in keep:
        if name not in known:
            raise unknown_name("layer to keep in float32", name, known)
