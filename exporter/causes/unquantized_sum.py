"""A residual sum whose operands do not all come as the runtime needs them to sum in 8 bits.

Where activations are asymmetric both operands must be dequantized; where they are symmetric the
shortcut alone, and the main branch comes straight from its convolution.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from exporter.artifact import Dialect
from exporter.causes.case import Case, counted, is_dequantized, producer
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
        if len(bare) == (0 if both else 1):
            continue
        own = case.kernels_of(add, free)
        if not own:
            continue
        seen.append(block.name)
        seeds |= own
        for index in bare:
            for node in _float_before(add, index):
                seeds |= case.kernels_of(node, free)
    if not seen:
        return None
    needed = "both operands" if both else "the shortcut alone, not the main branch,"
    return Claim(
        f"{len(seen)} of {len(case.facts.blocks)} residual sums compute in float ({counted(seen)}):"
        f" {needed} should have Q/DQ there",
        "quantize the sum's operands as well (quantize_static: leave Add in op_types_to_quantize)"
        if both
        else "put Q/DQ on the shortcut of each sum, and none between the last convolution and it",
        frozenset(seeds),
    )


def _float_before(add: ir.Node, index: int) -> list[ir.Node]:
    """What computes an operand that has no pair, a Relu looked through."""
    node = producer(add, index)
    found = []
    while node is not None:
        found.append(node)
        node = producer(node) if is_op(node, "Relu") else None
    return found
