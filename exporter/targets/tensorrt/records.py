"""TensorRT's account of an engine, as both of its readers give it: `LayerList`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from exporter.artifact import ElementType, Kernel, Operation
from exporter.targets.target import UnreadableKernels
from exporter.targets.tensorrt.operations import NO_KERNELS, ONCE, OPERATORS

DTYPES: Final[Mapping[str, ElementType]] = {
    "Float": ElementType.FP32,
    "Half": ElementType.FP16,
    "BFloat16": ElementType.BF16,
    "FP8": ElementType.FP8,
    "Int8": ElementType.INT8,
    "UInt8": ElementType.UINT8,
    "Int32": ElementType.INT32,
    "Int64": ElementType.INT64,
    "Bool": ElementType.BOOL,
}
_FLOATS: Final = (ElementType.FP32, ElementType.FP16, ElementType.BF16)


@dataclass(frozen=True)
class LayerTensor:
    """A tensor as a kernel reads or writes it; -1 in `dims` is a dimension of a profile."""

    name: str
    dims: tuple[int, ...]
    dtype: ElementType

    def elements(self, batch: int) -> int:
        """The number of elements with every dynamic dimension set to `batch`."""
        return math.prod(batch if size < 0 else size for size in self.dims)


@dataclass(frozen=True)
class LayerRecord:
    """One layer: a kernel with its tensors and the ONNX nodes that it lists."""

    name: str
    type: str
    inputs: tuple[LayerTensor, ...]
    constants: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    nodes: tuple[str, ...]
    does: tuple[Operation, ...]
    arithmetic: ElementType | None = None
    """What it multiplies, where that is told apart from what it reads."""
    weights: int = 0
    """How many weights it has, where they are counted and not among the `constants`."""

    @property
    def dtype(self) -> ElementType:
        """What it computes in. A product: its first input's type; anything else: its widest."""
        if self.arithmetic is not None:
            return self.arithmetic
        types = [tensor.dtype for tensor in (*self.inputs, *self.outputs)]
        if not types:
            return ElementType.INT64  # shapes and signals
        if {Operation.CONV, Operation.GEMM}.isdisjoint(self.does):
            return next((t for t in _FLOATS if t in types), types[0])
        return types[0]

    def reading(self, inputs: tuple[LayerTensor, ...]) -> LayerRecord:
        """The same kernel with other inputs."""
        return replace(self, inputs=inputs)


@dataclass(frozen=True)
class LayerList:
    """What a builder or an inspector said that was built, in execution order."""

    library: str
    """"TensorRT-RTX 1.7.1.116"."""
    built_for: str
    """"sm89", "portable"."""
    nodes: Mapping[str, str]
    """ONNX node -> operator, in the order of the graph."""
    layers: tuple[LayerRecord, ...]
    bindings: frozenset[str]
    """Names of the network's inputs and outputs."""

    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels that run on the device, in execution order."""
        return tuple(
            Kernel(
                name=layer.name,
                op=layer.type,
                does=layer.does,
                dtype=layer.dtype,
                inputs=tuple(map(self._named, layer.inputs)),
                outputs=tuple(map(self._named, layer.outputs)),
                labels=layer.nodes,
                output_dtypes=tuple(t.dtype for t in layer.outputs),
            )
            for layer in self.layers
            if layer.type not in NO_KERNELS
        )

    def _named(self, tensor: LayerTensor) -> str:
        """Marked, so that nobody takes the node in an inner tensor's name for its producer."""
        return tensor.name if tensor.name in self.bindings else f"tensorrt:{tensor.name}"


def check_complete(
    layers: Sequence[LayerRecord], nodes: Mapping[str, str], operations: Sequence[Operation] = ONCE
) -> None:
    """Is each node of the graph that does one of `operations` done by exactly one kernel?

    Raises:
        UnreadableKernels: it is not, so that counts of kernels would be wrong.
    """
    wanted = Counter(OPERATORS.get(op, Operation.OTHER) for op in nodes.values())
    done = Counter(operation for layer in layers for operation in layer.does)
    for operation in operations:
        if wanted[operation] != done[operation]:
            raise UnreadableKernels(
                f"the graph has {wanted[operation]} {operation} nodes, the kernels do "
                f"{done[operation]}"
            )
    counted = {Operation.CONV, Operation.ADD}
    kernels_of = Counter(
        node
        for layer in layers
        for node in layer.nodes
        if OPERATORS[nodes[node]] in counted and OPERATORS[nodes[node]] in layer.does
    )
    for node, op in nodes.items():
        if OPERATORS.get(op) in counted and kernels_of[node] != 1:
            raise UnreadableKernels(f"{node} is done by {kernels_of[node]} kernels instead of one")
