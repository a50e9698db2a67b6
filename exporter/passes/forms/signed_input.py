"""Quantize an image that has both signs with the zero point 0, for OpenVINO's first convolution.

    Q/DQ(x, uint8, zero point z)   ->   Q/DQ(x, int8, zero point 0)

OpenVINO's integer convolution corrects every window for a zero point other than 0, which costs a
tenth of the first convolution (docs/decisions/0009). The steps of a symmetric range are coarser:
1.11 times for ImageNet's normalised images. Must not fire: that is above COARSER, as for images in
[0, 1]; anything but DequantizeLinear reads the codes; a tensor inside the network, where precision
counts for more.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.passes.values import constant, is_op, replace_constant

COARSER: Final = 1.25
"""How much larger a step of the image may become: 2 dB."""


def signed_input(graph: ir.Model) -> PassReport:
    """Rewrites the Q/DQ pairs of the graph's inputs; `refused` says why not."""
    fired = 0
    refused: list[tuple[str, str]] = []
    for quantize in [node for node in graph.graph if is_op(node, "QuantizeLinear")]:
        if not _is_image(quantize.inputs[0]):
            continue
        reason = _why_not(quantize)
        if reason is not None:
            refused.append((str(quantize.name), reason))
            continue
        scale = np.float32(_symmetric_scale(quantize))
        for node in (quantize, *quantize.outputs[0].consumers()):
            replace_constant(graph.graph, node, 1, np.asarray(scale))
            replace_constant(graph.graph, node, 2, np.asarray(np.int8(0)))
        quantize.outputs[0].type = ir.TensorType(ir.DataType.INT8)
        fired += 1
    return PassReport("signed_input", fired, tuple(refused))


def _is_image(value: ir.Value | None) -> bool:
    """Whether it is a graph input, or one with its axes in another order."""
    producer = value.producer() if value is not None else None
    if producer is not None and is_op(producer, "Transpose"):
        value = producer.inputs[0]
    return value is not None and value.is_graph_input()


def _why_not(quantize: ir.Node) -> str | None:
    codes = quantize.outputs[0]
    if len(quantize.inputs) < 3:
        return "it names no zero point, which is 0 then"
    if codes.is_graph_output() or not all(
        is_op(node, "DequantizeLinear") for node in codes.consumers()
    ):
        return "its codes are read by more than DequantizeLinear"
    zero_point, scale = constant(quantize.inputs[2]), constant(quantize.inputs[1])
    if zero_point is None or scale is None or zero_point.dtype != np.uint8 or zero_point.size != 1:
        return "it has no constant zero point of its own in uint8"
    if not zero_point.any():
        return "its zero point is 0 already"
    coarser = _symmetric_scale(quantize) / float(scale)
    if coarser > COARSER:
        return f"its steps would become {coarser:.2f} times as large"
    return None


def _symmetric_scale(quantize: ir.Node) -> float:
    """The least step with which int8 codes around 0 reach both ends of the uint8 range."""
    zero_point, scale = constant(quantize.inputs[2]), constant(quantize.inputs[1])
    assert zero_point is not None
    assert scale is not None
    below = float(zero_point)
    return float(scale) * max(below / 128, (255 - below) / 127)
