"""A built engine beside the graph that it was built from: what every cause is looked for in.

Only a kernel that the runtime really made is held against a graph: an engine whose convolutions
compute in 8 bits with everything inside has no cause, whatever its graph looks like.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import onnx_ir as ir

from exporter.artifact import Dialect, ElementType, Kernel, Operation, Precision
from exporter.passes.blocks import GraphFacts, block_of_nodes
from exporter.passes.values import constant, is_inside, is_op
from exporter.prove.kernel_graph import NO_ARITHMETIC, KernelGraph, own_labels
from exporter.prove.receipt import FLOAT_POOLS
from exporter.prove.unfusable import Unfusable

_EIGHT_BITS: Final = (ElementType.INT8, ElementType.UINT8, ElementType.FP8)
_FLOATS: Final = (ElementType.FP64, ElementType.FP32, ElementType.FP16, ElementType.BF16)


@dataclass(frozen=True)
class Case:
    """One engine, its kernels in execution order, and its graph, named alike."""

    graph: ir.Model
    facts: GraphFacts
    """Of the float32 network that the graph stands for."""
    precision: Precision
    dialect: Dialect
    kernels: tuple[Kernel, ...]
    times_us: Mapping[str, float] = field(default_factory=dict)
    """Microseconds of each kernel by its name; empty where the engine is not profiled."""
    kept: tuple[str, ...] = ()
    """Module paths that were to stay in higher precision."""

    @cached_property
    def flow(self) -> KernelGraph:
        """Which kernels write what others read."""
        return KernelGraph(
            self.kernels, [block.name for block in self.facts.blocks], self.facts.nodes
        )

    @cached_property
    def nodes(self) -> Mapping[str, ir.Node]:
        """The graph's nodes by name, Q/DQ and casts left out."""
        return {str(n.name): n for n in self.graph.graph if not is_op(n, *_NO_NODES)}

    @cached_property
    def casts(self) -> Mapping[str, ir.Node]:
        """The graph's own casts between floats."""
        return {str(n.name): n for n in self.graph.graph if is_float_cast(n)}

    @cached_property
    def unfusable(self) -> Unfusable:
        """What no runtime is known to fuse."""
        return Unfusable(self.facts)

    @cached_property
    def suspects(self) -> frozenset[int]:
        """The kernels that a good engine would not have, or not in this type.

        In 8 bits all that computes in float before the head; else what computes in another type
        than the precision's, or is a pointwise operator, a normalisation or a cast of its own. What
        only converts the network's input is none.
        """
        layers = self.flow.select(self._is_layer)
        body = layers | self.flow.all_before(layers)
        computes = self.flow.select(lambda k: not NO_ARITHMETIC.issuperset(k.does))
        found = body & (computes | (self.flow.all_after(computes) & self.flow.all_before(layers)))
        return frozenset(index for index in found if self._is_suspect(self.kernels[index]))

    def _is_layer(self, kernel: Kernel) -> bool:
        """A convolution or a sum; a product where it computes in 8 bits: else it is the head's."""
        if Operation.GEMM in kernel.does:
            return kernel.dtype in _EIGHT_BITS
        return not {Operation.CONV, Operation.ADD}.isdisjoint(kernel.does)

    def _is_suspect(self, kernel: Kernel) -> bool:
        if self.precision.quantized:
            by_design = self.dialect in FLOAT_POOLS and Operation.AVGPOOL in kernel.does
            return kernel.dtype in _FLOATS and not by_design
        apart = {Operation.ADD, Operation.RELU, Operation.BATCHNORM, Operation.CAST}
        if Operation.CONV in kernel.does:
            return kernel.dtype is not ElementType(self.precision)
        return not apart.isdisjoint(kernel.does) and apart.union(NO_ARITHMETIC).issuperset(
            kernel.does
        )

    def nodes_of(self, index: int) -> tuple[ir.Node, ...]:
        """The graph's nodes that a kernel computes, as far as its labels tell."""
        labels = own_labels(self.kernels[index])
        return tuple(self.nodes[name] for name in sorted(labels) if name in self.nodes)

    def node_of(self, index: int, *op_types: str) -> ir.Node | None:
        """The kernel's node of one of these operators."""
        return next((n for n in self.nodes_of(index) if is_op(n, *op_types)), None)

    def kernels_of(self, node: ir.Node | None, among: Collection[int]) -> set[int]:
        """Those of some kernels that compute a node."""
        name = None if node is None else str(node.name)
        return {i for i in among if name in own_labels(self.kernels[i])}

    def does(self, operation: Operation, among: Collection[int]) -> list[int]:
        """Those of some kernels that do an operation, in execution order."""
        return [index for index in sorted(among) if operation in self.kernels[index].does]

    def place(self, node: ir.Node) -> str:
        """The residual block that a node is in, else the node."""
        return self._block_of.get(str(node.name), str(node.name))

    @cached_property
    def _block_of(self) -> Mapping[str, str]:
        return block_of_nodes(self.facts.blocks)

    def is_kept(self, index: int) -> bool:
        """Whether a kernel was to stay in higher precision."""
        labels = own_labels(self.kernels[index])
        return any(is_inside(label, name) for name in self.kept for label in labels)

    def time_us(self, kernels: Iterable[int]) -> float | None:
        """What some kernels take together; None: the engine is not profiled."""
        if not self.times_us:
            return None
        return sum(self.times_us.get(self.kernels[index].name, 0.0) for index in kernels)


_NO_NODES: Final = ("QuantizeLinear", "DequantizeLinear", "Cast")


def is_float_cast(node: ir.Node | None) -> bool:
    """Whether a node is a cast from one floating-point type to another."""
    if node is None or not is_op(node, "Cast") or node.inputs[0] is None:
        return False
    given, made = node.inputs[0].dtype, node.outputs[0].dtype
    return all(kind is not None and kind.is_floating_point() for kind in (given, made))


def producer(node: ir.Node, index: int = 0) -> ir.Node | None:
    """What computes a node's input."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return value.producer() if value is not None else None


def is_dequantized(node: ir.Node, index: int) -> bool:
    """Whether a node's input comes out of a DequantizeLinear."""
    return is_op(producer(node, index), "DequantizeLinear")


def computed_in_float(node: ir.Node, index: int) -> list[ir.Node]:
    """What computes an input that has no pair: a node, behind it a Relu perhaps."""
    found = []
    before = producer(node, index)
    while before is not None and not is_op(before, "DequantizeLinear"):
        found.append(before)
        before = producer(before) if is_op(before, "Relu") else None
    return found


def computed_inputs(node: ir.Node) -> list[int]:
    """Which inputs of a node are computed from the network's input, weights left out."""
    return (
        [0] if is_op(node, "Conv", "Gemm", "BatchNormalization") else list(range(len(node.inputs)))
    )


def readers(node: ir.Node) -> tuple[ir.Node, ...]:
    """What reads a node's first output."""
    return tuple(node.outputs[0].consumers())


def zero_point(node: ir.Node) -> np.ndarray | None:
    """The zero point of a Q or DQ; uint8's 0 where it has none."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros(1, np.uint8)
    return constant(node.inputs[2])


def counted(names: Iterable[str], shown: int = 3) -> str:
    """Names in words, of many the first few."""
    every = list(dict.fromkeys(names))
    more = f" and {len(every) - shown} more" if len(every) > shown else ""
    return ", ".join(every[:shown]) + more
