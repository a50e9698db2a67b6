"""Which passes lower the optimized graph to a precision in a dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from onnx_ir.passes import common

from exporter.artifact import Dialect, PassReport, Precision
from exporter.errors import UsageError, unknown_name
from exporter.graph.files import check
from exporter.passes.convert_floats import convert_floats
from exporter.passes.fuse_residual import fuse_residual

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.passes.qdq.ranges import Ranges

Keep = tuple[str, ...]


@dataclass(frozen=True)
class Lowering:
    """What a graph is to become."""

    precision: Precision
    dialect: Dialect
    ranges: Ranges | None = None
    """Calibrated on the graph that is lowered; INT8 and FP8 need them."""
    keep: Keep = ()
    """Names of nodes, or of modules with all nodes inside them, that stay in float32."""
    chosen: Keep = ()
    """The same of what INT8 leaves in `chosen_type`, its Q/DQ outside."""
    chosen_type: Precision = Precision.FP32
    """FP32, FP16 or BF16."""
    float_type: Precision = Precision.FP32
    """The type of what INT8 and FP8 leave unquantized; FP16 only in `LEAVE_FLOATS`."""
    reduce_range: bool = False
    """Weights of INT8 in 7 bits."""


def _to_fp16(graph: ir.Model, to: Lowering) -> PassReport:
    return convert_floats(graph, Precision.FP16, to.keep)


def _to_bf16(graph: ir.Model, to: Lowering) -> PassReport:
    return convert_floats(graph, Precision.BF16, to.keep)


def _to_8_bits(graph: ir.Model, to: Lowering) -> PassReport:
    from exporter.passes.qdq.insert import insert_qdq

    if to.ranges is None:
        raise UsageError(
            f"{to.precision.upper()} in {to.dialect} needs calibrated ranges; give `ranges`"
        )
    keep = (*to.keep, *to.chosen)
    return insert_qdq(graph, to.ranges, to.dialect, keep, reduce_range=to.reduce_range)


def _chosen_to_their_type(graph: ir.Model, to: Lowering) -> PassReport:
    return convert_floats(graph, to.chosen_type, to.keep, only=to.chosen)


def _fuse_residual(graph: ir.Model, to: Lowering) -> PassReport:  # noqa: ARG001
    return fuse_residual(graph)


Step = Callable[["ir.Model", Lowering], PassReport]

LOWERINGS: Final[Mapping[tuple[Precision, Dialect], tuple[Step, ...]]] = {
    (Precision.FP32, Dialect.FLOAT): (),
    (Precision.FP32, Dialect.FLOAT_FUSED): (_fuse_residual,),
    (Precision.FP16, Dialect.FLOAT): (_to_fp16,),
    (Precision.BF16, Dialect.FLOAT): (_to_bf16,),
    (Precision.INT8, Dialect.U8_ASYMMETRIC): (_to_8_bits,),
    (Precision.INT8, Dialect.S8_SYMMETRIC): (_to_8_bits,),
    (Precision.FP8, Dialect.E4M3_SYMMETRIC): (_to_8_bits,),
}
"""The passes that lower to a precision in a dialect, in their order."""
LEAVE_FLOATS: Final = (Dialect.S8_SYMMETRIC, Dialect.E4M3_SYMMETRIC)
"""The dialects with float tensors between quantized ones."""


def lower(graph: ir.Model, to: Lowering) -> tuple[ir.Model, tuple[PassReport, ...]]:
    """The graph as asked for, and what each pass did; the given graph stays.

    Raises:
        UsageError: no such lowering, ranges missing, or a name to keep that the graph has not.
        BuildError: the result is not valid ONNX.
    """
    if (to.precision, to.dialect) not in LOWERINGS:
        known = ", ".join(f"{precision} {dialect}" for precision, dialect in LOWERINGS)
        raise UsageError(
            f"no lowering to {to.precision} in the dialect {to.dialect}; known: {known}"
        )
    if to.float_type is not Precision.FP32 and to.dialect not in LEAVE_FLOATS:
        raise UsageError(
            f"{to.dialect} leaves no float tensor that could be {to.float_type}; "
            "leave `float_type` out"
        )
    check_kept(graph, (*to.keep, *to.chosen))
    lowered = graph.clone()
    steps = LOWERINGS[to.precision, to.dialect]
    if to.precision.quantized and to.float_type is Precision.FP16:
        steps = (_to_fp16, *steps)
    if to.chosen and to.chosen_type is not Precision.FP32:
        steps = (*steps, _chosen_to_their_type)
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
