"""Codes that the runtime does not take at all, so that it builds no engine of the graph.

TensorRT has INT8 with one meaning: signed, and 0 is the number 0, for activations and weights.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from exporter.causes.case import Case, zero_point
from exporter.causes.finding import Claim
from exporter.passes.values import constant, is_op


def find(case: Case, free: Collection[int]) -> Claim | None:  # noqa: ARG001 - there is no kernel
    """The unsigned codes and other zero points than 0 in a graph that was refused."""
    if case.kernels or not case.precision.quantized:
        return None
    pairs = [node for node in case.graph.graph if is_op(node, "QuantizeLinear")]
    weights = [
        node for node in case.graph.graph if is_op(node, "DequantizeLinear") and _is_weight(node)
    ]
    seen = [
        f"{len(found)} of {len(every)} {what}"
        for what, every in (("activations", pairs), ("weights", weights))
        if (found := [node for node in every if not _is_taken(node)])
    ]
    if not seen:
        return None
    return Claim(
        f"{' and '.join(seen)} are in unsigned codes or have another zero point than 0: the "
        "runtime takes signed symmetric INT8 alone, and builds no engine",
        "quantize activations and weights to signed symmetric codes (quantize_static: "
        "activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, "
        'extra_options={"ActivationSymmetric": True, "WeightSymmetric": True})',
        frozenset(),
    )


def _is_weight(node: ir.Node) -> bool:
    codes = constant(node.inputs[0])
    return codes is not None and codes.dtype != np.int32


def _is_taken(node: ir.Node) -> bool:
    zero = zero_point(node)
    return zero is not None and zero.dtype != np.uint8 and not zero.astype(np.float32).any()
