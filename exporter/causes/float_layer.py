"""A layer that nobody quantized among those that are: its input or its weight has no Q/DQ."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import onnx_ir as ir

from exporter.causes.case import Case, computed_in_float, counted, is_dequantized
from exporter.causes.finding import Claim
from exporter.passes.values import is_op

_WEIGHTED: Final = ("Conv", "Gemm")
_POOLS: Final = ("GlobalAveragePool", "AveragePool", "ReduceMean", "MaxPool")


def find(case: Case, free: Collection[int]) -> Claim | None:
    """The float kernels of such convolutions, products and pools."""
    if not case.precision.quantized:
        return None
    seeds: set[int] = set()
    seen: list[str] = []
    for index in sorted(free):
        node = case.node_of(index, *_WEIGHTED, *_POOLS)
        if node is not None and not _is_quantized(node):
            seeds.add(index)
            for before in computed_in_float(node, 0):
                seeds |= case.kernels_of(before, free)
            seen.append(f"{node.op_type} {node.name}")
    if not seeds:
        return None
    return Claim(
        f"{len(seen)} layers are left in float among {case.facts.convs} convolutions "
        f"({counted(seen)}): no Q/DQ on the input or the weight",
        "quantize them, too (quantize_static: take them out of nodes_to_exclude); what must stay "
        "exact costs this much",
        frozenset(seeds),
    )


def _is_quantized(node: ir.Node) -> bool:
    return is_dequantized(node, 0) and (not is_op(node, *_WEIGHTED) or is_dequantized(node, 1))
