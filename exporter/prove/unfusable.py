"""Which operators of a network no runtime is expected to make part of a convolution's kernel.

A plain residual network has convolutions, each followed by nothing or by an activation that the
runtime is known to fuse, and sums of two branches, one of which ends in a convolution. All of that
becomes part of the convolutions. Everything else that a network has between its first convolution
and its head may be a kernel of its own, and so may what depends on it:

    a gate that multiplies, another activation, a lone BatchNormalization, a pooling, a Concat, ...
    a sum of which neither branch ends in a convolution that the sum alone reads
    a sum of values of two shapes, as of what a context gives each channel
    a sum or an activation of pooled values, as in a gate
    an activation behind something that is neither a convolution nor such a sum

A kernel does such an operator where one of its labels names it, or where it only converts what
such an operator reads. A kernel that no label ties to the graph is what the runtime made of an
operator that is several operations: a part of what is unfusable in its block, if anything is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from exporter.artifact import Kernel, Operation
from exporter.passes.blocks import GraphFacts, GraphNode, ResidualBlock
from exporter.prove.kernel_graph import NO_ARITHMETIC, own_labels

_HEAD: Final = frozenset(
    {"AveragePool", "GlobalAveragePool", "Flatten", "Reshape", "Squeeze", "Gemm"}
)
"""What a plain network has behind its last convolution."""
_POOLS: Final = frozenset({"GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMean"})
"""What a gate begins with."""
_STAY_IN_8_BITS: Final = frozenset({"MaxPool", "Flatten", "Reshape", "Squeeze"})
"""What holds values of its input alone: in float where that is."""
_WRITES_8_BITS: Final = _STAY_IN_8_BITS | {
    "Conv", "Add", "Relu", "AveragePool", "GlobalAveragePool",
}  # fmt: skip
"""What INT8 gives an 8-bit result."""
_MOVES: Final = frozenset(
    {
        "Shape", "Gather", "Slice", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat",
        "Expand", "Transpose", "Cast", "Identity",
    }
)  # fmt: skip


_CONVERTS: Final = NO_ARITHMETIC | {Operation.POINTWISE}
"""What a kernel that dequantizes a convolution's result may do: to subtract a zero point is
pointwise."""


class Unfusable:
    """What is unfusable in a graph, and which kernels do it."""

    def __init__(self, facts: GraphFacts) -> None:
        self._facts = facts
        self._reasons = unfusable(facts)
        self._named = {name: node for node in facts.nodes for name in (node.name, *node.outputs)}

    def why_sum(self, block: ResidualBlock) -> str | None:
        """Why a block's sum may be a kernel of its own; None: it should be fused."""
        node = self._named.get(block.add)
        return None if node is None else self._reasons.get(node.name)

    def why(self, kernel: Kernel, blocks: Sequence[str]) -> str | None:
        """Why a kernel of some blocks may be one of its own; None: it should not be."""
        done = {node.name: node for node in map(self._node_of, own_labels(kernel)) if node}
        if not done:
            return self._why_nameless(blocks)
        named_a_result = all(node.op == "Conv" for node in done.values())
        if (_CONVERTS if named_a_result else NO_ARITHMETIC).issuperset(kernel.does):
            read_by = [n for n in self._facts.nodes if not done.keys().isdisjoint(n.operands)]
            done.update({node.name: node for node in read_by})
        return next((why for name, why in self._reasons.items() if name in done), None)

    def _why_nameless(self, blocks: Sequence[str]) -> str | None:
        nearby = {
            name for block in self._facts.blocks if block.name in blocks for name in block.nodes
        }
        found = [name for name in self._reasons if name in nearby or not blocks]
        kinds = ", ".join(dict.fromkeys(self._named[name].op for name in found))
        return f"a part of what it is not known to fuse here: {kinds}" if kinds else None

    def _node_of(self, label: str) -> GraphNode | None:
        """The node that a label names, or names a part of: `layer1.act.mul/QuickGeluFusion/`."""
        while label and label not in self._named:
            label = label[: max(label.rfind("."), label.rfind("/"), 0)]
        return self._named.get(label)


def unfusable(facts: GraphFacts) -> dict[str, str]:
    """Node name -> why it may be a kernel of its own; what only moves values comes last."""
    nodes = {node.name: node for node in facts.nodes}
    body = _body(facts)
    found: dict[str, str] = {}
    pooled: set[str] = set()
    for node in facts.nodes:
        if node.name in body and (node.op in _POOLS or pooled.issuperset(node.operands or [""])):
            pooled.add(node.name)
            if node.op != "Conv" and node.op not in _POOLS:
                found[node.name] = f"a {node.op} of pooled values"
                continue
        reason = _reason(node, nodes, found, facts.activations, in_head=node.name not in body)
        if reason is not None:
            found[node.name] = reason
    return dict(sorted(found.items(), key=lambda item: nodes[item[0]].op in _MOVES))


def _reason(
    node: GraphNode,
    nodes: Mapping[str, GraphNode],
    found: Mapping[str, str],
    activations: frozenset[str],
    *,
    in_head: bool,
) -> str | None:
    """None where a runtime should fuse the node, or leaves it where it is in any network."""
    if node.op in ("Conv", "MaxPool") or (in_head and node.op in _HEAD):
        before = nodes.get(node.operands[0]) if node.op in _STAY_IN_8_BITS else None
        if before is None or (before.name not in found and before.op in _WRITES_8_BITS):
            return None
        return f"a {node.op} behind a {before.op}"
    operands = [nodes[name] for name in node.operands if name]
    if node.op == "Add" and len(node.operands) > 1:
        if node.broadcasts:
            return "it adds values of another shape"
        if any(operand.op == "Conv" and operand.readers == 1 for operand in operands):
            return None
        return "neither branch ends in a convolution that the sum alone reads"
    if node.op in activations or node.op == "BatchNormalization":
        hosts = {"Conv"} if node.op == "BatchNormalization" else {"Conv", "Add"}
        for operand in operands:
            if operand.op in hosts and operand.readers == 1 and operand.name not in found:
                return None
        what = operands[0].op if operands else "the input"
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
