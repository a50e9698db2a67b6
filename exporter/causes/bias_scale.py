"""A bias that keeps a quantized convolution from being one kernel.

ONNX Runtime adds the bias to the int32 sums, so it must be int32 with the product of the input's
and the weight's scale, equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from exporter.artifact import Operation
from exporter.causes.case import Case, counted, is_dequantized, producer
from exporter.causes.finding import Claim
from exporter.passes.values import constant


def find(case: Case, free: Collection[int]) -> Claim | None:
    """The float kernels of convolutions with Q/DQ on input and weight whose bias does not fit."""
    seeds: list[int] = []
    seen: dict[str, str] = {}
    for index in case.does(Operation.CONV, free):
        node = case.node_of(index, "Conv")
        if node is None or not (is_dequantized(node, 0) and is_dequantized(node, 1)):
            continue
        reason = _why_not(node)
        if reason is not None:
            seeds.append(index)
            seen[str(node.name)] = reason
    if not seeds:
        return None
    reasons = " or ".join(dict.fromkeys(seen.values()))
    return Claim(
        f"{len(seen)} of {case.facts.convs} convolutions compute in float ({counted(seen)}): the "
        f"bias {reasons}",
        "quantize the bias to int32 with scale = input scale x weight scale of each channel, in "
        "float32 to the last bit",
        frozenset(seeds),
    )


def _why_not(node: ir.Node) -> str | None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    if not is_dequantized(node, 2):
        return "has no Q/DQ"
    scales = [_scale(node, index) for index in range(3)]
    if any(scale is None for scale in scales):
        return "has a computed scale"
    x, weight, bias = (np.float32(1) * scale for scale in scales if scale is not None)
    if not np.array_equal(np.broadcast_to(x * weight, bias.shape), bias):
        return "has another scale than the input's times the weight's"
    return None


def _scale(node: ir.Node, index: int) -> np.ndarray | None:
    pair = producer(node, index)
    return None if pair is None else constant(pair.inputs[1])
