"""Activations that are quantized while the engine runs: each layer measures its input first.

Such a layer sums in integers, and hands a float tensor on: nothing is fused behind it, and the next
one looks for the range anew.
"""

from __future__ import annotations

from collections.abc import Collection

from exporter.causes.case import Case, counted
from exporter.causes.finding import Claim
from exporter.passes.integer_to_float import PRODUCTS
from exporter.passes.values import is_op


def find(case: Case, free: Collection[int]) -> Claim | None:
    """The kernels of such layers, and all in float between them but layers of their own."""
    nodes = [node for node in case.nodes.values() if is_op(node, *PRODUCTS)]
    if not nodes:
        return None
    every = range(len(case.kernels))
    layers = {index for node in nodes for index in case.kernels_of(node, every)}
    apart = {index for index in free if case.node_of(index, "Conv", "Gemm") is not None}
    return Claim(
        f"{len(nodes)} layers are quantized while they run (ConvInteger, MatMulInteger behind "
        f"DynamicQuantizeLinear; {counted(case.place(node) for node in nodes)}): each looks for "
        "the range of its input first and writes float, with which nothing fuses",
        "measure the ranges once and quantize with them (quantize_static in the place of "
        "quantize_dynamic)",
        frozenset(layers | (set(free) - apart)),
    )
