"""The 8-bit Conv and Gemm of a lowered graph, each beside the same node of the exact graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from exporter.errors import BuildError
from exporter.passes.qdq.arithmetic import dequantize
from exporter.passes.qdq.nodes import is_quantized
from exporter.passes.values import constant, dims, is_op, replace_constant
from exporter.quantize.rounding import Moments, moments_shape, round_columns

if TYPE_CHECKING:
    from exporter.targets import Array


@dataclass(frozen=True)
class QuantizedLayer:
    """A Conv or Gemm whose weight is in 8 bits, beside the same node of the exact graph."""

    lowered: ir.Node
    exact: ir.Node
    weight: Array
    """The exact weight W, float32."""

    @property
    def name(self) -> str:
        return str(self.exact.name)

    @property
    def input(self) -> str:
        """The name of the exact graph's tensor that it reads."""
        value = self.exact.inputs[0]
        assert value is not None
        return str(value.name)

    @property
    def kernel(self) -> tuple[int, int]:
        """(kH, kW); (1, 1) for a Gemm."""
        shape = self.weight.shape
        return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)

    @property
    def moments_shape(self) -> tuple[int, int] | None:
        return moments_shape(self.exact, self.weight.shape)

    def residue(self) -> Array:
        """W - Wq, float32, shaped as the weight."""
        return self.weight - dequantize(*self._quantized())

    def round(self, body: ir.Graph, moments: Moments) -> None:
        """Replaces the codes by those with which the result varies least."""
        codes, scale, axis = self._quantized()
        rows = np.moveaxis(self.weight, axis, 0)
        groups = self.exact.attributes.get_int("group", 1)
        per_group = len(rows) // groups
        flat = rows.reshape(len(rows), -1)
        rounded = np.empty(flat.shape, np.int8)
        largest = int(np.abs(codes.astype(np.int16)).max())  # less than 127 in a reduced range
        for group in range(groups):
            part = slice(group * per_group, (group + 1) * per_group)
            rounded[part] = round_columns(
                flat[part], scale[part].astype(np.float32), moments.covariance(group), largest
            )
        result = np.ascontiguousarray(np.moveaxis(rounded.reshape(rows.shape), 0, axis))
        assert result.shape == codes.shape
        replace_constant(body, self._dequantize(), 0, result)

    def _dequantize(self) -> ir.Node:
        weight = self.lowered.inputs[1]
        assert weight is not None
        producer = weight.producer()
        assert producer is not None
        return producer

    def _quantized(self) -> tuple[Array, Array, int]:
        """Codes, scale (C,) and the channels' axis."""
        node = self._dequantize()
        codes, scale = constant(node.inputs[0]), constant(node.inputs[1])
        assert codes is not None
        assert scale is not None
        return codes, scale, node.attributes.get_int("axis", 1)


def quantized_layers(lowered: ir.Model, exact: ir.Model) -> tuple[QuantizedLayer, ...]:
    """The layers of a lowered graph in graph order; nodes are matched by name.

    Raises:
        BuildError: `exact` is not the graph that was lowered.
    """
    originals = {str(node.name): node for node in exact.graph}
    layers = []
    for node in lowered.graph:
        if not is_op(node, "Conv", "Gemm") or not is_quantized(node.inputs[1]):
            continue
        original = originals.get(str(node.name))
        weight = None if original is None else constant(original.inputs[1])
        if original is None or weight is None or weight.shape != dims(node.inputs[1]):
            raise BuildError(
                f"the exact graph has no {node.op_type} {node.name} of the lowered graph's shape; "
                "give the graph that was lowered"
            )
        layers.append(QuantizedLayer(node, original, weight.astype(np.float32)))
    return tuple(layers)
