"""Write INT8 or FP8 into the graph: QuantizeLinear and DequantizeLinear where a runtime fuses them.

    u8-asymmetric   ONNX Runtime's CPU provider, OpenVINO      `u8_asymmetric`
    s8-symmetric    TensorRT, TensorRT-RTX                     `s8_symmetric`
    e4m3-symmetric  the same in FP8

Standard ONNX, opset 20. The type between the quantized regions is the graph's own: on a graph that
`convert_floats` has been through, scales and what is dequantized are FP16.
Left in float, with the reason: what `keep` names, and every operator that has no INT8 form.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import Dialect, PassReport
from exporter.errors import BuildError, UsageError
from exporter.passes.qdq.arithmetic import LARGEST_CODE, LARGEST_REDUCED_CODE
from exporter.passes.qdq.ranges import Ranges
from exporter.passes.qdq.s8_symmetric import place_e4m3_symmetric, place_s8_symmetric
from exporter.passes.qdq.u8_asymmetric import place_u8_asymmetric
from exporter.passes.values import is_inside, is_op


def insert_qdq(
    graph: ir.Model,
    ranges: Ranges,
    dialect: Dialect,
    keep: Collection[str] = (),
    *,
    reduce_range: bool = False,
) -> PassReport:
    """Counts as fired each operator that now computes in 8 bits.

    `keep` holds names of nodes, or of modules with all nodes inside them. `reduce_range` gives
    weights 7 bits, for x86 CPUs without VNNI (docs/decisions/0005).

    Raises:
        UsageError: a dialect that has no Q/DQ.
        BuildError: `ranges` are those of another graph, or no convolution or product can compute
            in INT8.
    """
    if any(is_op(node, "QuantizeLinear", "DequantizeLinear") for node in graph.graph):
        return PassReport("insert_qdq", 0, (("graph", "it has Q/DQ already"),))
    places = {
        Dialect.U8_ASYMMETRIC: place_u8_asymmetric,
        Dialect.S8_SYMMETRIC: place_s8_symmetric,
        Dialect.E4M3_SYMMETRIC: place_e4m3_symmetric,
    }
    if dialect not in places:
        raise UsageError(f"dialect {dialect} has no Q/DQ; 8 bits are in {' or '.join(places)}")
    kept = frozenset(
        node for node in graph.graph if any(is_inside(str(node.name), name) for name in keep)
    )
    largest_code = LARGEST_REDUCED_CODE if reduce_range else LARGEST_CODE
    counts, refused = places[dialect](graph, ranges, kept, largest_code)
    if not counts["convs"] + counts["gemms"]:
        raise BuildError(f"there is nothing to quantize: {_why_nothing(graph, refused)}")
    common.RemoveUnusedNodesPass()(graph)
    return PassReport(
        "insert_qdq",
        fired=sum(counts[key] for key in ("convs", "gemms", "adds", "pools")),
        refused=tuple(refused),
        counts=counts,
    )


def _why_nothing(graph: ir.Model, refused: Collection[tuple[str, str]]) -> str:
    """Why no weights can be 8 bits wide, and what to do."""
    layers = {str(node.name) for node in graph.graph if is_op(node, "Conv", "Gemm", "MatMul")}
    first = next((f"{name}: {reason}" for name, reason in refused if name in layers), None)
    return f"{first or 'no convolution and no product is in it'}; leave out the precision int8"
