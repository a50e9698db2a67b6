"""Which operators of a network no runtime is expected to make part of a convolution's kernel.

A plain residual network has convolutions, each followed by nothing or by an activation that the
runtime is known to fuse, and sums of two branches, one of which ends in a convolution. All of that
becomes part of the convolutions. Everything else that a network has between its first convolution
and its head may be a kernel of its own, and so may what depends on it:

    a gate that multiplies, another activation, a lone BatchNormalization, a pooling, a Concat, ...
    a sum of which neither branch ends in a convolution that the sum alone reads
    an activation behind something that is neither a convolution nor such a sum
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exporter.passes.blocks import GraphFacts, GraphNode

_HEAD: Final = frozenset(
    {
        "AveragePool", "GlobalAveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze",
        "Gemm", "MatMul", "Softmax", "LogSoftmax",
    }
)  # fmt: skip
"""What a plain network has behind its last convolution."""
_ALWAYS_PLAIN: Final = frozenset({"Conv", "MaxPool"})


def unfusable(facts: GraphFacts) -> dict[str, str]:
    """Node name -> why it may be a kernel of its own, in graph order."""
    nodes = {node.name: node for node in facts.nodes}
    body = _body(facts)
    found: dict[str, str] = {}
    for node in facts.nodes:
        reason = _reason(node, nodes, found, facts.activations, in_head=node.name not in body)
        if reason is not None:
            found[node.name] = reason
    return found


def _reason(
    node: GraphNode,
    nodes: Mapping[str, GraphNode],
    found: Mapping[str, str],
    activations: frozenset[str],
    *,
    in_head: bool,
) -> str | None:
    """None where a runtime should fuse the node, or leaves it where it is in any network."""
    if node.op in _ALWAYS_PLAIN or (in_head and node.op in _HEAD):
        return None
    before = [nodes[name] for name in node.operands if name]
    if node.op == "Add" and len(node.operands) > 1:
        if any(operand.op == "Conv" and operand.readers == 1 for operand in before):
            return None
        return "neither branch ends in a convolution that the sum alone reads"
    if node.op in activations or node.op == "BatchNormalization":
        hosts = {"Conv"} if node.op == "BatchNormalization" else {"Conv", "Add"}
        for operand in before:
            if operand.op in hosts and operand.readers == 1 and operand.name not in found:
                return None
        what = before[0].op if before else "the input"
        return f"a {node.op} behind {what}"
    return f"not known to fuse a {node.op}"


def _body(facts: GraphFacts) -> set[str]:
    """The convolutions, the residual sums, and the nodes that one of these depends on."""
    sums = {block.add for block in facts.blocks}
    found: set[str] = set()
    for node in reversed(facts.nodes):
        if node.op == "Conv" or node.name in found or not sums.isdisjoint(node.outputs):
            found.update((node.name, *node.operands))
    return found
