"""What is measured, or kept in float, as one: each residual block, what is before them, and behind.

A layer between two blocks, and each layer of a network without blocks, is a unit of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from exporter.passes.blocks import ResidualBlock, block_of_nodes
from exporter.passes.values import is_inside, is_op

STEM: Final = "stem"
HEAD: Final = "head"
_LAYERS: Final = ("Conv", "Gemm")


@dataclass(frozen=True)
class Unit:
    """Nodes that stay in float together."""

    name: str
    """The block's, "stem", "head", or the layer's."""
    keep: tuple[str, ...]
    """Names of its nodes, or of the module that holds them and no others: as for `--keep`."""
    counted: tuple[str, ...]
    """Of these, what a receipt must find in float: the layers and sums, or the module."""


@dataclass(frozen=True)
class Ends:
    """The tensors at which a unit can be cut out of its graph."""

    inputs: tuple[str, ...]
    """What it reads of other units; what the graph itself is given is not among them."""
    outputs: tuple[str, ...]
    """What others, or the graph's outputs, read of it."""


def units_of(graph: ir.Model, blocks: Sequence[ResidualBlock]) -> tuple[Unit, ...]:
    """The units of an optimized graph, in its order; each has a Conv or Gemm."""
    owner = block_of_nodes(blocks)
    nodes = list(graph.graph)
    inside = [index for index, node in enumerate(nodes) if str(node.name) in owner]
    first, last = (inside[0], inside[-1]) if inside else (len(nodes), -1)
    members: dict[str, list[ir.Node]] = {}
    for index, node in enumerate(nodes):
        name = owner.get(str(node.name))
        if name is None and blocks:
            name = STEM if index < first else HEAD if index > last else None
        if name is None:
            if not is_op(node, *_LAYERS):
                continue
            name = str(node.name)
        members.setdefault(name, []).append(node)
    names = [str(node.name) for node in nodes]
    return tuple(
        _unit(name, own, names)
        for name, own in members.items()
        if any(is_op(node, *_LAYERS) for node in own)
    )


def _unit(name: str, nodes: Sequence[ir.Node], names: Iterable[str]) -> Unit:
    own = [str(node.name) for node in nodes]
    if name not in (STEM, HEAD) and {n for n in names if is_inside(n, name)} == set(own):
        return Unit(name, (name,), (name,))
    counted = tuple(str(node.name) for node in nodes if is_op(node, *_LAYERS))
    return Unit(name, tuple(own), counted)


def kept_names(
    units: Mapping[str, Unit], kept: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to keep of some units, and what a receipt is to count of it."""
    chosen = [units[name] for name in kept]
    return (
        tuple(name for unit in chosen for name in unit.keep),
        tuple(name for unit in chosen for name in unit.counted),
    )


def ends_of(graph: ir.Model, unit: Unit, blocks: Iterable[ResidualBlock]) -> Ends:
    """Where a unit of an optimized graph begins and ends; a lone layer takes its Relu along."""
    given = {str(value.name) for value in graph.graph.inputs}
    block = next((block for block in blocks if block.name == unit.name), None)
    if block is not None:
        return Ends(tuple({block.input} - given), (block.output,))
    members = [node for node in graph.graph if str(node.name) in unit.keep]
    if len(members) == 1:
        members += _sole_relu(members[0])
    inside = set(members)
    read = [value for node in members for value in node.inputs]
    inputs = [v for v in read if v is not None and v.producer() not in {None, *inside}]
    made = [value for node in members for value in node.outputs if _is_float(value)]
    seen = [v for v in made if v.is_graph_output() or not inside.issuperset(v.consumers())]
    return Ends(
        tuple(dict.fromkeys(str(value.name) for value in inputs if _is_float(value))),
        tuple(str(value.name) for value in seen or made[-1:]),  # behind it are indices alone
    )


def _is_float(value: ir.Value) -> bool:
    return value.dtype is ir.DataType.FLOAT


def _sole_relu(node: ir.Node) -> tuple[ir.Node, ...]:
    value = node.outputs[0]
    readers = tuple(value.consumers())
    alone = len(readers) == 1 and not value.is_graph_output()
    return readers if alone and is_op(readers[0], "Relu") else ()
