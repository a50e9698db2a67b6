"""Find the residual blocks of a graph by its structure.

A residual add is an `Add` of two computed tensors of one shape that come from one fork, with at
least one convolution between the fork and the sum. The fork is the Add's immediate dominator: the
last node that every path from the input to the Add goes through (Cooper, Harvey and Kennedy, "A
simple, fast dominance algorithm", 2001; on an acyclic graph one pass is enough). The block is what
lies on the paths between, the Add, and the Relu after it where that is the sum's only reader.

So a bias (an Add with a constant), a gate (Mul of a squeeze-and-excitation), x + tanh(x) inside an
activation, and a sum over the splits of one convolution are not residual. A long skip whose fork is
far up, or is the network's input, is: its sum costs as much as any other and fuses the same way.
Blocks may lie inside one another; a node belongs to the smallest that holds it.

Works on graphs with and without BatchNormalization folded, and on pre-activation blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.passes.values import dims, is_op


class Shortcut(StrEnum):
    """What stands beside the convolutions of a residual block (He et al. 2015)."""

    IDENTITY = "identity"
    """No convolution."""
    PROJECTION = "projection"
    """A convolution that brings the block's input to its output's shape."""


@dataclass(frozen=True)
class ResidualBlock:
    """One BasicBlock, Bottleneck or anything else that ends in a sum with its own input."""

    name: str
    """The module path, as in `layer3.4`; else `block1`, `block2`, in graph order."""
    add: str
    """Name of the Add's output tensor."""
    shortcut: Shortcut
    input: str
    """The tensor that both branches come from."""
    output: str
    """The block's output tensor: after the Relu, where the Add has one to itself."""
    nodes: tuple[str, ...]
    """Names of its nodes in graph order, Add and Relu included."""


@dataclass(frozen=True)
class GraphNode:
    """One operator of a graph, as far as it matters which could be one kernel with another."""

    name: str
    op: str
    outputs: tuple[str, ...]
    operands: tuple[str, ...]
    """Names of the nodes that compute its inputs; "" stands for the network's input."""
    readers: int
    """How often its results are read, by the network's outputs as well."""
    broadcasts: bool = False
    """Of what it computes with, one has fewer numbers than another and is repeated."""


@dataclass(frozen=True)
class GraphFacts:
    """What a receipt counts against."""

    convs: int
    batchnorms_folded: int
    blocks: tuple[ResidualBlock, ...]
    nodes: tuple[GraphNode, ...] = ()
    """In graph order; what depends on no input of the network is left out."""
    activations: frozenset[str] = frozenset({"Relu"})
    """Operators that the runtime at hand is known to make part of the kernel before them."""
    inputs: int = 1
    """Those of the network that it reads."""

    @classmethod
    def of(
        cls,
        graph: ir.Model,
        reports: Iterable[PassReport],
        blocks: tuple[ResidualBlock, ...],
    ) -> GraphFacts:
        """The facts of an optimized graph, from the reports of the passes that made it."""
        folded = sum(report.fired for report in reports if report.name == "fold_batchnorm")
        convs = sum(is_op(node, "Conv") for node in graph.graph)
        read = sum(bool(value.uses()) for value in graph.graph.inputs)
        return cls(convs, folded, blocks, _nodes(graph.graph), inputs=read)


def _nodes(body: ir.Graph) -> tuple[GraphNode, ...]:
    found: dict[ir.Node | ir.Value, GraphNode] = {}
    for node in body:
        points = [p for p in _points_before(node) if isinstance(p, ir.Value) or p in found]
        if not points:
            continue
        found[node] = GraphNode(
            name=str(node.name),
            op=node.op_type,
            outputs=tuple(str(value.name) for value in node.outputs),
            operands=tuple(found[p].name if p in found else "" for p in points),
            readers=sum(len(v.uses()) + v.is_graph_output() for v in node.outputs),
            broadcasts=len({dims(v) for v in node.inputs if _is_computed(v, found)}) > 1,
        )
    return tuple(found.values())


def _is_computed(value: ir.Value | None, found: Mapping[ir.Node | ir.Value, GraphNode]) -> bool:
    return value is not None and value.producer() in found


def find_residual_blocks(graph: ir.Model) -> tuple[ResidualBlock, ...]:
    """The blocks in the order of their Adds. Every node must have a name of its own."""
    order = {node: index for index, node in enumerate(graph.graph)}
    fork_of = _immediate_dominators(graph.graph)
    found = []
    for add in order:
        between = _between(add, fork_of)
        if between is not None:
            found.append((add, sorted(between, key=order.__getitem__)))
    names = _names(found)
    return tuple(
        _block(name, add, body, fork_of[add])
        for name, (add, body) in zip(names, found, strict=True)
    )


def block_of_nodes(blocks: Iterable[ResidualBlock]) -> Mapping[str, str]:
    """Node name -> name of the smallest block that holds it."""
    owner: dict[str, str] = {}
    for block in sorted(blocks, key=lambda block: -len(block.nodes)):
        owner.update(dict.fromkeys(block.nodes, block.name))
    return owner


def _points_before(node: ir.Node) -> list[ir.Node | ir.Value]:
    """What computes the node's inputs: nodes, or the graph's input, which no node produces."""
    points: list[ir.Node | ir.Value] = []
    for value in node.inputs:
        if value is None:
            continue
        producer = value.producer()
        if producer is not None:
            points.append(producer)
        elif value.is_graph_input() and not value.is_initializer():
            points.append(value)
    return points


def _immediate_dominators(body: ir.Graph) -> dict[ir.Node | ir.Value, ir.Node | ir.Value | None]:
    """For each node that depends on the input: its immediate dominator; None: only the root."""
    dominator: dict[ir.Node | ir.Value, ir.Node | ir.Value | None] = dict.fromkeys(body.inputs)
    level: dict[ir.Node | ir.Value | None, int] = {None: 0, **dict.fromkeys(body.inputs, 1)}
    for node in body:
        points = [point for point in _points_before(node) if point in dominator]
        if not points:
            continue  # made of constants alone
        common: ir.Node | ir.Value | None = points[0]
        for point in points[1:]:
            other: ir.Node | ir.Value | None = point
            while common is not other:
                if level[common] < level[other]:
                    common, other = other, common
                assert common is not None
                common = dominator[common]
        dominator[node] = common
        level[node] = level[common] + 1
    return dominator


def _between(
    add: ir.Node, fork_of: Mapping[ir.Node | ir.Value, ir.Node | ir.Value | None]
) -> set[ir.Node] | None:
    """The nodes from the fork (not included) to a residual Add; None where it is not one."""
    if not is_op(add, "Add") or len(_points_before(add)) != 2:
        return None
    a, b = (dims(value) for value in add.inputs)
    if a is None or b is None or a != b:
        return None
    fork = fork_of.get(add)
    if fork is None:
        return None
    body = _ancestors(add, fork)
    return body if any(is_op(node, "Conv") for node in body) else None


def _ancestors(node: ir.Node, fork: ir.Node | ir.Value) -> set[ir.Node]:
    """`node` and everything that it is computed from, back to the fork (not included)."""
    seen = {node}
    waiting = [node]
    while waiting:
        for point in waiting.pop().predecessors():
            if point is not fork and point not in seen:
                seen.add(point)
                waiting.append(point)
    return seen


def _relu_after(add: ir.Node) -> ir.Node | None:
    output = add.outputs[0]
    readers = output.consumers()
    alone = len(output.uses()) == 1 and not output.is_graph_output()
    return readers[0] if alone and is_op(readers[0], "Relu") else None


def _block(
    name: str, add: ir.Node, body: list[ir.Node], fork: ir.Node | ir.Value | None
) -> ResidualBlock:
    assert fork is not None
    relu = _relu_after(add)
    nodes = [*body, relu] if relu is not None else body
    last = nodes[-1]
    return ResidualBlock(
        name=name,
        add=str(add.outputs[0].name),
        input=str((fork if isinstance(fork, ir.Value) else fork.outputs[0]).name),
        shortcut=Shortcut.IDENTITY if _has_plain_branch(add, fork) else Shortcut.PROJECTION,
        output=str(last.outputs[0].name),
        nodes=tuple(str(node.name) for node in nodes),
    )


def _has_plain_branch(add: ir.Node, fork: ir.Node | ir.Value) -> bool:
    """Whether one of the two branches has no convolution."""
    for value in add.inputs:
        producer = value.producer() if value is not None else None
        if producer is None or producer is fork:
            return True
        if not any(is_op(node, "Conv") for node in _ancestors(producer, fork)):
            return True
    return False


def _names(found: list[tuple[ir.Node, list[ir.Node]]]) -> list[str]:
    """For each block the module path that its own convolutions and its Add share.

    Where there is none (or a module ends in several sums), blocks are numbered in graph order.
    """
    owner: dict[ir.Node, ir.Node] = {}
    for add, body in sorted(found, key=lambda block: -len(block[1])):
        owner.update(dict.fromkeys(body, add))
    scopes = [
        _common_scope([n for n in body if owner[n] is add and (n is add or is_op(n, "Conv"))])
        for add, body in found
    ]
    names: list[str] = []
    for scope in scopes:
        name, number = scope, 0
        while not name or name in names or (number == 0 and scopes.count(scope) > 1):
            number += 1
            name = f"{scope}.block{number}".removeprefix(".")
            if name in scopes:
                name = ""
        names.append(name)
    return names


def _common_scope(nodes: list[ir.Node]) -> str:
    paths = [str(node.name).split(".")[:-1] for node in nodes]
    common = paths[0]
    for path in paths[1:]:
        shared = 0
        while shared < min(len(common), len(path)) and common[shared] == path[shared]:
            shared += 1
        common = common[:shared]
    return ".".join(common)
