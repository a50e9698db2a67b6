"""A BF16 graph as one that computes in float32 and rounds where BF16 would, in place.

    op(bf16) -> bf16        becomes        op(fp32) -> Cast(bf16) -> Cast(fp32)

That is what BF16 arithmetic is: products of BF16 numbers, added up in float32, one rounding at the
end of each operator. Weights keep the numbers that they were rounded to. So a runtime that has no
BF16 convolution can tell what the graph computes (docs/decisions/0017).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from exporter.artifact import PassReport
from exporter.passes.values import constant, free_name, is_op

BF16: Final = ir.DataType.BFLOAT16
FLOAT: Final = ir.DataType.FLOAT


def widen_bf16(graph: ir.Model) -> PassReport:
    """Counts as fired each node that computed in BF16."""
    body = graph.graph
    for value in body.initializers.values():
        if value.dtype is BF16:
            array = constant(value)
            assert array is not None, "our BF16 graphs have no constant that is an input"
            value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
            value.type = ir.TensorType(FLOAT)
    fired = 0
    for node in list(body):
        narrow = [output for output in node.outputs if output.dtype is BF16]
        for output in narrow:
            _round(body, node, output)
        fired += bool(narrow) and not is_op(node, "Cast")
    return PassReport("widen_bf16", fired)


def _round(body: ir.Graph, node: ir.Node, output: ir.Value) -> None:
    """Gives the readers of a BF16 result its number in float32."""
    readers = list(output.uses())
    tape = Tape()
    rounded = output
    if not is_op(node, "Cast"):  # a Cast to BF16 rounds by itself
        output.type = ir.TensorType(FLOAT)
        rounded = tape.op(
            "Cast",
            [output],
            {"to": BF16},
            name=free_name(body, f"{output.name}.round"),
            output=ir.val(free_name(body, f"{output.name}.rounded"), BF16, output.shape),
        )
    wide = tape.op(
        "Cast",
        [rounded],
        {"to": FLOAT},
        name=free_name(body, f"{output.name}.widen"),
        output=ir.val(free_name(body, f"{output.name}.wide"), FLOAT, output.shape),
    )
    for reader, index in readers:
        reader.replace_input_with(index, wide)
    body.insert_after(node, tape.nodes)
