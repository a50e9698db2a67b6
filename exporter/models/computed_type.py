"""In which type a graph's layers compute: float32, from which the lower precisions are made."""

from __future__ import annotations

import onnx_ir as ir

from exporter.passes.values import is_op


def why_not_float32(graph: ir.Model) -> str | None:
    """The first convolution or product in another type, in words; None: there is none."""
    for node in graph.graph:
        if not is_op(node, "Conv", "Gemm", "MatMul"):
            continue
        for value in node.inputs[:2]:
            if value is not None and value.dtype not in (ir.DataType.FLOAT, None):
                return f"{node.op_type} {node.name!r} computes in {value.dtype}"
    return None
