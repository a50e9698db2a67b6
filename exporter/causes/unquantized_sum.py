"""A residual sum whose operands do not all come as the runtime needs them to sum in 8 bits.

Where activations are asymmetric both operands must be dequantized, and the result quantized; where
they are symmetric the shortcut alone, and the main branch comes straight from its convolution.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from exporter.artifact import Dialect
from exporter.causes.case import (
    Case,
    computed_in_float,
    counted,
    is_dequantized,
    readers,
)
from exporter.causes.finding import Claim
from exporter.passes.values import is_op


def find(case: Case, free: Collection[int]) -> Claim | None:
    """The float kernels of such sums, and of what computes the operand without a pair."""
    if not case.precision.quantized:
        return None
    both = case.dialect is Dialect.U8_ASYMMETRIC
    seeds: set[int] = set()
    seen: list[str] = []
    for block in case.facts.blocks:
        add = case.nodes.get(block.add)
        if add is None or not is_op(add, "Add"):
            continue
        bare = [index for index in (0, 1) if not is_dequantized(add, index)]
        if len(bare) == (0 if both else 1) and (not both or _is_requantized(add)):
            continue
        own = case.kernels_of(add, free)
        if not own:
            continue
        seen.append(block.name)
        seeds |= own
        for index in bare:
            for node in computed_in_float(add, index):
                seeds |= case.kernels_of(node, free)
    if not seen:
        return None
    needed = "both operands and the result" if both else "the shortcut alone, not the main branch,"
    return Claim(
        f"{len(seen)} of {len(case.facts.blocks)} residual sums compute in float ({counted(seen)}):"
        f" {needed} should have Q/DQ there",
        "quantize the sums as well (quantize_static: Add in op_types_to_quantize, none excluded)"
        if both
        else "put Q/DQ on the shortcut of each sum, and none between the last convolution and it",
        frozenset(seeds),
    )


def _is_requantized(add: ir.Node) -> bool:
    """Whether the result is quantized, a Relu looked through."""
    read_by = readers(add)
    if len(read_by) == 1 and is_op(read_by[0], "Relu"):
        read_by = readers(read_by[0])
    return bool(read_by) and all(is_op(node, "QuantizeLinear") for node in read_by)
