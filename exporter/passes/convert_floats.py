"""Convert weights and activations to FP16 or BF16; the graph's input and output stay float32.

    input --Cast(fp16)--> ... everything in fp16 ... --Cast(fp32)--> output

Which operands may be of the type is read from the operators' own definitions (`onnx.defs`). Left in
float32, with a Cast on each side: the nodes in `keep`, operators whose definition has not the type,
and operands that it fixes to float32 (the scales of a Resize). The precision is in the graph, so
every runtime computes the same thing.

With `only`, the same of some nodes in the middle of a quantized graph, whose Q/DQ stay in float32:

    DQ(fp32) --Cast(bf16)--> ... the chosen nodes ... --Cast(fp32)--> Q(fp32)

Weights are rounded to nearest even. In FP16 they become infinite beyond 65504 and zero below 2^-25
(IEEE 754 binary16: the largest finite number is 65504, the smallest subnormal 2^-24); both are
counted, which is why this is not ONNX Runtime's converter (`onnxruntime.transformers.float16`):
that one moves such weights to the nearest number that FP16 has and does not say how many. BF16 has
float32's range and 8 bits of its 24; ONNX has convolutions in it from opset 22 on, so the graph is
raised to that.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport, Precision
from exporter.passes.values import (
    add_constant,
    constant,
    free_name,
    insert_behind,
    is_inside,
    is_op,
)

FLOAT: Final = ir.DataType.FLOAT
_FLOAT: Final = "tensor(float)"
_TYPES: Final = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}
_PAIRS: Final = ("QuantizeLinear", "DequantizeLinear")
_BF16_OPSET: Final = 22
"""The first in which ONNX's convolution and pooling are defined in BF16. From ours to it only types
were added: the one operator that means something else, GroupNormalization, is not valid in ours."""


def convert_floats(
    graph: ir.Model,
    to: Precision,
    keep: Collection[str] = (),
    only: Collection[str] | None = None,
) -> PassReport:
    """Counts as fired each node whose result turns from float32 into `to`, FP16 or BF16.

    `keep` holds what stays in float32: names of nodes, or of modules with all nodes inside them;
    `only`, in the same words, what does not. Without it that is all nodes, else all but Q/DQ.
    """
    if to is Precision.BF16:
        graph.opset_imports[""] = max(graph.opset_imports[""], _BF16_OPSET)
    body = graph.graph
    conversion = _Conversion(body, to)
    refused = []
    fired = 0
    for node in body:
        demand = _demand(node, graph.opset_imports.get(node.domain, 1), to)
        left = only is not None and (is_op(node, *_PAIRS) or not _is_among(node, only))
        if _is_among(node, keep):
            demand = "kept in float32 as asked"
        if isinstance(demand, str) and not left:
            refused.append((str(node.name), demand))
        if left or isinstance(demand, str):
            demand = _Demand(inputs=(FLOAT,) * len(node.inputs), turned=frozenset())
        conversion.demands[node] = demand
        turned = [o for i, o in enumerate(node.outputs) if i in demand.turned]
        turned = [output for output in turned if output.dtype is FLOAT]
        for output in turned:
            output.type = ir.TensorType(_TYPES[to])  # a new one: clones share type objects
            conversion.turned.add(output)
        fired += bool(turned)
    conversion.feed_nodes()
    conversion.feed_outputs()
    common.RemoveUnusedNodesPass()(graph)
    return PassReport(f"convert_{to}", fired, tuple(refused), conversion.counts)


def _is_among(node: ir.Node, names: Collection[str]) -> bool:
    return any(is_inside(str(node.name), name) for name in names)


@dataclass(frozen=True)
class _Demand:
    """The floating-point type that a node wants for each input (None: any will do)."""

    inputs: tuple[ir.DataType | None, ...]
    turned: frozenset[int]
    """The outputs that have the precision's type."""


def _demand(node: ir.Node, version: int, to: Precision) -> _Demand | str:
    """What the node wants in a precision, or why it has to stay in float32."""
    if not onnx.defs.has(node.op_type, version, node.domain):
        return f"{node.op_type} has no definition that says whether it exists in {to.upper()}"
    schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    if "dtype" in schema.attributes and "dtype" not in node.attributes and node.inputs:
        return f"{node.op_type} gives the type that it reads, and names none"
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    formal_inputs = [schema.inputs[min(i, len(schema.inputs) - 1)] for i in range(len(node.inputs))]
    formal_outputs = [
        schema.outputs[min(i, len(schema.outputs) - 1)] for i in range(len(node.outputs))
    ]
    types_in = [formal.type_str for formal in formal_inputs]
    types_out = [formal.type_str for formal in formal_outputs]
    inputs: list[ir.DataType | None] = []
    narrow = _TYPES[to]
    for value, kind in zip(node.inputs, types_in, strict=True):
        if value is None or value.dtype not in (FLOAT, narrow):
            inputs.append(None)
        elif kind == _FLOAT:
            inputs.append(FLOAT)
        elif f"tensor({narrow.name.lower()})" not in allowed.get(kind, ()):
            return f"{node.op_type} has no {to.upper()} form"
        elif kind in types_out or types_in.count(kind) > 1 or node.op_type in ("Concat", "Sum"):
            inputs.append(narrow)
        else:
            inputs.append(None)  # Cast, Shape, ArgMax: they read whatever type comes
    turned = {k for k, want in zip(types_in, inputs, strict=True) if want is narrow}
    return _Demand(tuple(inputs), frozenset(i for i, k in enumerate(types_out) if k in turned))


@dataclass
class _Conversion:
    """Brings each float to the type that its readers want; each value is converted once."""

    body: ir.Graph
    to: Precision
    demands: dict[ir.Node, _Demand] = field(default_factory=dict)
    turned: set[ir.Value] = field(default_factory=set)
    """Results that were float32 and are `to` now."""
    counts: dict[str, int] = field(
        default_factory=lambda: {
            "weights overflowed to infinity": 0,
            "weights flushed to zero": 0,
        }
    )
    _converted: dict[tuple[ir.Value, ir.DataType], ir.Value] = field(default_factory=dict)

    @property
    def _floats(self) -> tuple[ir.DataType, ir.DataType]:
        return FLOAT, _TYPES[self.to]

    def feed_nodes(self) -> None:
        for node, demand in self.demands.items():
            for index, (value, want) in enumerate(zip(node.inputs, demand.inputs, strict=True)):
                if value is not None and want is not None and value.dtype in self._floats:
                    node.replace_input_with(index, self._as(value, want))

    def feed_outputs(self) -> None:
        """The graph's outputs keep their float32 and their names."""
        for index, value in enumerate(self.body.outputs):
            if value not in self.turned:
                continue
            name, producer = value.name, value.producer()
            assert producer is not None
            value.name = str(producer.name) if producer.name != name else f"{name}.{self.to}"
            output = self._as(value, FLOAT)
            output.name = name
            self.body.outputs[index] = output

    def _as(self, value: ir.Value, want: ir.DataType) -> ir.Value:
        if value.dtype is want:
            return value
        key = (value, want)
        if key not in self._converted:
            array = constant(value)
            if array is None:
                self._converted[key] = self._cast(value, want)
            else:
                self._converted[key] = self._weight(value, array, want)
        return self._converted[key]

    def _cast(self, value: ir.Value, want: ir.DataType) -> ir.Value:
        name = free_name(self.body, f"{value.name}.{Precision.FP32 if want is FLOAT else self.to}")
        output = ir.val(name, want, value.shape)
        cast = ir.node("Cast", [value], {"to": want}, name=name, outputs=[output])
        insert_behind(self.body, value, [cast])
        return output

    def _weight(self, value: ir.Value, array: np.ndarray, want: ir.DataType) -> ir.Value:
        if want is FLOAT:
            return add_constant(self.body, f"{value.name}.fp32", array.astype(np.float32))
        with np.errstate(over="ignore"):
            rounded = array.astype(want.numpy())
        overflowed = np.isinf(rounded) & np.isfinite(array)
        flushed = (rounded == 0) & (array != 0)
        self.counts["weights overflowed to infinity"] += int(overflowed.sum())
        self.counts["weights flushed to zero"] += int(flushed.sum())
        if len(value.uses()) == 1 and not value.is_graph_output():
            # The name stays with the only copy.
            name = str(value.name)
            value.name = f"{name}.fp32"
            return add_constant(self.body, name, rounded)
        return add_constant(self.body, f"{value.name}.{self.to}", rounded)
