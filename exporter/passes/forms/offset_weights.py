"""Give 8-bit weights the zero point -1, so that ONNX Runtime multiplies them with AMX.

    DQ(codes, zero point 0)   ->   DQ(codes - 1, zero point -1)

The weights are the same numbers, hence the results, bit for bit. ONNX Runtime has two ways to
compute an 8-bit convolution: kernels of its own where the weights' zero point is 0, which use VNNI,
and else a matrix product, which uses AMX where the CPU has it. By an element of the output the
first takes K / 620 ns, the second K / 3200 ns plus 0.24 ns to requantize and, for windows larger
than one pixel, 0.08 K / N ns to gather them (K products in each of N channels; measured on two
cores, docs/decisions/0008), hence

    K > 185 + 62 K / N (the last term for larger windows only)

Must not fire: groups, which are always matrix products; a zero point other than 0; a code of -128.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.passes.qdq.nodes import quantized_weight
from exporter.passes.values import constant, is_op, replace_constant

FEWEST_PRODUCTS = 185
"""With no more products for an element of the output, the kernels that use VNNI are faster."""
GATHERING = 62
"""What gathering a window larger than one pixel costs, in products, times K / N."""


def offset_weights(graph: ir.Model) -> PassReport:
    """Moves the codes of every convolution for which a matrix product is faster with AMX."""
    fired = 0
    refused: list[tuple[str, str]] = []
    for conv in [node for node in graph.graph if is_op(node, "Conv")]:
        reason = _why_not(conv)
        if reason is not None:
            refused.append((str(conv.name), reason))
            continue
        weight = quantized_weight(conv)
        assert weight is not None
        dequantize, codes = weight
        zero_points = constant(dequantize.inputs[2])
        assert zero_points is not None
        replace_constant(graph.graph, dequantize, 0, codes - np.int8(1))
        replace_constant(graph.graph, dequantize, 2, zero_points - np.int8(1))
        fired += 1
    return PassReport("offset_weights", fired, tuple(refused))


def _why_not(conv: ir.Node) -> str | None:
    if conv.attributes.get_int("group", 1) != 1:
        return "its groups are matrix products already"
    weight = quantized_weight(conv)
    if weight is None or len(weight[0].inputs) < 3:
        return "its weight is no quantized constant of its own with zero point 0"
    codes = weight[1]
    if codes.dtype != np.int8 or codes.min() == np.iinfo(np.int8).min:
        return "its codes leave no room for a zero point of -1"
    outputs, products = codes.shape[0], int(np.prod(codes.shape[1:]))
    pointwise = codes.shape[1] == products
    if products <= FEWEST_PRODUCTS + (0 if pointwise else GATHERING * products / outputs):
        return f"{products} products for each of {outputs} channels are faster with VNNI"
    return None
