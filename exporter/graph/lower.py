"""Which passes lower the optimized graph to a precision in a dialect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx_ir.passes import common

from exporter.artifact import Dialect, PassReport, Precision
from exporter.errors import UsageError, unknown_name
from exporter.graph.files import check
from exporter.passes.convert_fp16 import convert_fp16
from exporter.passes.fuse_residual import fuse_residual

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.artifact import Ranges

Keep = tuple[str, ...]


@dataclass(frozen=True)
class Lowering:
    """What the passes are asked for; see `lower`."""

    precision: Precision
    dialect: Dialect
    ranges: Ranges | None = None
    keep: Keep = ()
    between: Precision = Precision.FP32
    reduce_range: bool = False


def _to_fp16(graph: ir.Model, to: Lowering) -> PassReport:
    return convert_fp16(graph, to.keep)


def _to_int8(graph: ir.Model, to: Lowering) -> PassReport:
    from exporter.passes.qdq.insert import insert_qdq

    if to.ranges is None:
        raise UsageError(f"INT8 in {to.dialect} needs calibrated ranges; give `ranges`")
    return insert_qdq(graph, to.ranges, to.dialect, to.keep, reduce_range=to.reduce_range)


def _fuse_residual(graph: ir.Model, to: Lowering) -> PassReport:  # noqa: ARG001
    return fuse_residual(graph)


Step = Callable[["ir.Model", Lowering], PassReport]

LOWERINGS: dict[tuple[Precision, Dialect], tuple[Step, ...]] = {
    (Precision.FP32, Dialect.FLOAT): (),
    (Precision.FP32, Dialect.FLOAT_FUSED): (_fuse_residual,),
    (Precision.FP16, Dialect.FLOAT): (_to_fp16,),
    (Precision.INT8, Dialect.U8_ASYMMETRIC): (_to_int8,),
    (Precision.INT8, Dialect.S8_SYMMETRIC): (_to_int8,),
}
HAVE_FP16_BETWEEN = (Dialect.S8_SYMMETRIC,)
"""The dialects that leave float tensors between quantized ones, and may have them in FP16."""


def lower(
    graph: ir.Model,
    precision: Precision,
    dialect: Dialect,
    *,
    ranges: Ranges | None = None,
    keep: Keep = (),
    between: Precision = Precision.FP32,
    reduce_range: bool = False,
) -> tuple[ir.Model, tuple[PassReport, ...]]:
    """The graph in the precision and dialect, and what each pass did; the given graph stays.

    `keep` names nodes, or modules with all nodes inside them, that stay in float32. For INT8,
    `between` is the type of what is not quantized and `reduce_range` gives weights 7 bits.

    Raises:
        UsageError: no such lowering, ranges missing, or a name in `keep` that the graph has not.
        BuildError: the result is not valid ONNX.
    """
    if (precision, dialect) not in LOWERINGS:
        known = ", ".join(f"{p} {d}" for p, d in LOWERINGS)
        raise UsageError(f"no lowering to {precision} in the dialect {dialect}; known: {known}")
    if between is not Precision.FP32 and dialect not in HAVE_FP16_BETWEEN:
        raise UsageError(f"{dialect} has nothing in {between} between; leave `between` out")
    check_kept(graph, keep)
    lowered = graph.clone()
    to = Lowering(precision, dialect, ranges, keep, between, reduce_range)
    steps = LOWERINGS[precision, dialect]
    if precision is Precision.INT8 and between is Precision.FP16:
        steps = (_to_fp16, *steps)
    reports = [step(lowered, to) for step in steps]
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
