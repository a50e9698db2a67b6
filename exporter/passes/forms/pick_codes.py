"""Pick the codes that a strided 1x1 convolution reads, for OpenVINO.

    Conv(DQ(codes), W 1x1, stride 2)   ->   Conv(DQ(MaxPool(codes, 1x1, stride 2)), W 1x1)

OpenVINO moves such a stride towards the input itself, where all that read a value have it, and puts
a pool there: between numbers, so that the convolutions behind it compute in float32 (in INT8 the
original ResNet-50 took 1.4 times as long, docs/decisions/0056). With the codes picked there is no
stride left to move. This is for what `hoist_strides` cannot move further, as behind a gate. Must
not fire: a reader of every position, with which OpenVINO moves nothing.
"""

from __future__ import annotations

import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.passes.strides import insert_pick, read_every_position, shrink, step_of_readers
from exporter.passes.values import constant, is_op


def pick_codes(graph: ir.Model) -> PassReport:
    """Counts as fired each tensor of codes that is picked from."""
    body = graph.graph
    fired = 0
    for dequantize in [node for node in body if is_op(node, "DequantizeLinear")]:
        codes, numbers = dequantize.inputs[0], dequantize.outputs[0]
        step = step_of_readers(numbers)
        if step is None or codes is None or constant(codes) is not None:
            continue
        read_every_position(numbers)
        dequantize.replace_input_with(0, insert_pick(body, codes, step).outputs[0])
        shrink(numbers, step)
        fired += 1
    return PassReport("pick_codes", fired)
