"""Give each convolution a bias of its own, where several share one: a tower that is run twice.

OpenVINO makes a bias part of a convolution only where nobody else reads it; else it adds it in a
kernel of its own. The numbers are the same, hence the results, bit for bit.

Must not fire: a bias that one convolution reads, or that is computed.
"""

from __future__ import annotations

import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.passes.values import add_constant, constant, is_op


def own_biases(graph: ir.Model) -> PassReport:
    """Counts as fired each convolution that got a copy."""
    fired = 0
    for conv in [node for node in graph.graph if is_op(node, "Conv") and len(node.inputs) > 2]:
        shared, values = conv.inputs[2], constant(conv.inputs[2])
        if shared is None or values is None or len(shared.uses()) < 2:
            continue
        own = add_constant(graph.graph, f"{conv.name}.own_bias", values)
        conv.replace_input_with(2, own)
        fired += 1
    return PassReport("own_biases", fired)
