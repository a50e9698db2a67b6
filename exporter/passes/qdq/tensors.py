"""Which tensors have a range of their own, and which operators can compute in 8 bits."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from exporter.passes.qdq.nodes import FLOATS, float_constant
from exporter.passes.values import is_one_per_channel, is_op

MOVERS: Final = (
    "MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity",
)  # fmt: skip
"""Operators whose output holds values of their first input and nothing else."""


def source_of_values(value: ir.Value) -> ir.Value:
    """The tensor whose range this one has: back through operators that only move values.

    A cast from another type than FP32 and FP16 (8-bit images, FP64) makes a tensor of its own, and
    so does the pooling that drops the infinity which a Pad put around. What only a Relu reads has
    the range of that one's result: the Relu would drop the rest of it.
    """
    producer = value.producer()
    while is_op(producer, *MOVERS, "Cast"):
        assert producer is not None
        source = producer.inputs[0]
        assert source is not None
        if source.dtype not in FLOATS or _is_infinitely_padded(source.producer()):
            break
        value, producer = source, source.producer()
    while _only_a_relu_reads(value):
        value = value.consumers()[0].outputs[0]
    return value


def tensors_with_a_range(body: ir.Graph) -> tuple[ir.Value, ...]:
    """The inputs and the computed float tensors that 8 bits may have to hold, in graph order.

    Left out: what has another tensor's range.
    """
    values = [*body.inputs, *(output for node in body for output in node.outputs)]
    return tuple(
        value
        for value in values
        if value.dtype in FLOATS and value.const_value is None and source_of_values(value) is value
    )


def channel_axis(node: ir.Node) -> int:
    """Where a weight has its output channels: Conv (O, I/g, kH, kW), Gemm (O, I) with transB."""
    return 0 if is_op(node, "Conv") or node.attributes.get_int("transB", 0) != 0 else 1


def why_float_weights(node: ir.Node) -> str | None:
    """Why a Conv or Gemm cannot have 8-bit weights; None: it can."""
    weight = float_constant(node.inputs[1])
    if weight is None:
        return "its weight is computed, not a constant"
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = float_constant(given)
    if given is not None and bias is None:
        return "its bias is computed, not a constant"
    if bias is not None and not is_one_per_channel(bias, weight.shape[channel_axis(node)]):
        return "its bias has not one number a channel"
    if is_op(node, "Gemm") and (
        node.attributes.get_float("alpha", 1.0) != 1.0
        or node.attributes.get_int("transA", 0) != 0
        or (bias is not None and node.attributes.get_float("beta", 1.0) != 1.0)
    ):
        return "its alpha, beta or transA is not the plain one"
    return None


def _is_infinitely_padded(node: ir.Node | None) -> bool:
    if node is None or not is_op(node, "Pad") or len(node.inputs) < 3:
        return False
    around = float_constant(node.inputs[2])
    return around is not None and not np.isfinite(around).all()


def _only_a_relu_reads(value: ir.Value) -> bool:
    readers = value.consumers()
    return not value.is_graph_output() and len(value.uses()) == 1 and is_op(readers[0], "Relu")
