"""The dialect `u8-asymmetric`: what ONNX Runtime's CPU provider and OpenVINO fuse.

    DQ(x) DQ(W) DQ(b) -> Conv [-> Relu] -> Q     becomes   QLinearConv
    DQ(a) DQ(b)       -> Add  [-> Relu] -> Q     becomes   QLinearAdd
    DQ(x)             -> GlobalAveragePool -> Q  becomes   QLinearGlobalAveragePool
    DQ(x) DQ(W) DQ(b) -> Gemm                    becomes   QGemm, with a float result

Activations are U8 and asymmetric. What a Relu yields starts at 0, so its zero point is 0 and the
Relu is absorbed by the saturation of Q: the tensor before it gets no pair of its own. Weights are
S8 per output channel, biases int32 with the product of both scales. Every tensor between the input
and the classifier has a pair, both inputs of each Add included; operators that only move values
(max pooling, reshaping) take their input's scale to their output, so that the runtime drops the
pairs around them. The classifier's result stays float: rounding it would cost accuracy and buy no
time.

Stays float: what is kept, an Add with a constant, a Conv or Gemm whose weight is computed, every
other operator. Around such an operator tensors are dequantized and quantized again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from exporter.passes.qdq.arithmetic import (
    Activation,
    asymmetric_u8,
    quantize_bias,
    quantize_weight,
)
from exporter.passes.qdq.nodes import (
    FLOATS,
    Parameters,
    add_pair,
    add_parameters,
    float_constant,
    replace_bias,
    replace_weight,
)
from exporter.passes.qdq.ranges import Ranges
from exporter.passes.qdq.tensors import (
    MOVERS,
    channel_axis,
    source_of_values,
    why_float_weights,
)
from exporter.passes.values import constant, is_op

POOLS = ("GlobalAveragePool", "AveragePool")
"""The poolings that average, and so need a range of their own."""

Counts = dict[str, int]
Refused = list[tuple[str, str]]


def place_u8_asymmetric(
    graph: ir.Model, ranges: Ranges, kept: Collection[ir.Node], largest_code: int
) -> tuple[Counts, Refused]:
    """Puts the pairs in, in place; counts what computes in INT8 and names what does not."""
    placement = _Placement(graph.graph, ranges, kept, largest_code)
    placement.decide()
    placement.quantize_tensors()
    placement.quantize_weights()
    return placement.counts, placement.refused


@dataclass
class _Placement:
    body: ir.Graph
    ranges: Ranges
    kept: Collection[ir.Node]
    largest_code: int
    quantized: set[ir.Node] = field(default_factory=set)
    absorbed: dict[ir.Node, ir.Node] = field(default_factory=dict)
    """Relu -> the node whose saturation does it."""
    parameters: dict[ir.Value, tuple[Activation, Parameters]] = field(default_factory=dict)
    sources: dict[ir.Value, str] = field(default_factory=dict)
    """Whose range a tensor has, by name, in the graph as it was calibrated."""
    refused: Refused = field(default_factory=list)
    counts: Counts = field(
        default_factory=lambda: dict.fromkeys(
            ("convs", "gemms", "adds", "pools", "kept", "raised channels"), 0
        )
    )

    def decide(self) -> None:
        """Which nodes compute in INT8."""
        for node in self.body:
            if all(value is None or value.dtype not in FLOATS for value in node.inputs):
                continue
            reason = "kept in float as asked" if node in self.kept else self._why_float(node)
            if reason is None:
                self.quantized.add(node)
                self._count(node)
            elif not self._absorb(node):
                self.counts["kept"] += node in self.kept
                self.refused.append((str(node.name), reason))

    def _why_float(self, node: ir.Node) -> str | None:
        if is_op(node, "Conv", "Gemm"):
            return why_float_weights(node)
        if is_op(node, "Add"):
            if any(constant(value) is not None for value in node.inputs):
                return "adds a constant, which no 8-bit kernel does"
            return None
        if is_op(node, *POOLS):
            return None
        if is_op(node, *MOVERS):
            return None if self._writes_8_bits(node.inputs[0]) else "moves values that are float"
        return f"{node.op_type} has no INT8 form"

    def _writes_8_bits(self, value: ir.Value | None) -> bool:
        """Whether what writes a tensor has an 8-bit result whoever reads it."""
        producer = value.producer() if value is not None else None
        if producer is None:
            return False
        writer = self.absorbed.get(producer, producer)
        return writer in self.quantized and not is_op(writer, "Gemm")

    def _absorb(self, node: ir.Node) -> bool:
        """Whether the node is a Relu that the quantized node before it does."""
        value = node.inputs[0]
        before = value.producer() if value is not None else None
        if (
            not is_op(node, "Relu")
            or node in self.kept
            or before not in self.quantized
            or not is_op(before, "Conv", "Gemm", "Add")
            or before is None
            or len(before.outputs[0].uses()) != 1
            or before.outputs[0].is_graph_output()
        ):
            return False
        self.absorbed[node] = before
        return True

    def _count(self, node: ir.Node) -> None:
        kinds = {"Conv": "convs", "Gemm": "gemms", "Add": "adds", **dict.fromkeys(POOLS, "pools")}
        if node.op_type in kinds:
            self.counts[kinds[node.op_type]] += 1

    def quantize_tensors(self) -> None:
        """Pairs on every tensor that a quantized node reads or writes."""
        inner = {before.outputs[0] for before in self.absorbed.values()}
        values = [*self.body.inputs, *(o for node in self.body for o in node.outputs)]
        self.sources = {value: str(source_of_values(value).name) for value in values}
        for value in values:
            if value.dtype not in FLOATS or value in inner:
                continue
            read = any(self._reads_activation(node, index) for node, index in value.uses())
            if read or self._writes_8_bits(value):
                self._quantize(value)

    def _reads_activation(self, node: ir.Node, index: int) -> bool:
        return node in self.quantized and (index == 0 or is_op(node, "Add"))

    def _quantize(self, value: ir.Value) -> None:
        """A pair behind `value`, for all its readers; behind a float operator, for the quantized.

        A second reader of a quantized operator's float result would keep it from being fused.
        """
        producer = value.producer()
        writer = None if producer is None else self.absorbed.get(producer, producer)
        all_readers = writer in self.quantized
        uses = [
            (node, index)
            for node, index in tuple(value.uses())
            if all_readers or self._reads_activation(node, index)
        ]
        outputs = [i for i, output in enumerate(self.body.outputs) if output is value]
        numbers, parameters = self._parameters_of(value)
        dequantized = add_pair(self.body, value, parameters)
        self.parameters[value] = self.parameters[dequantized] = numbers, parameters
        for node, index in uses:
            node.replace_input_with(index, dequantized)
        if outputs and all_readers:
            name = value.name
            value.name = f"{name}.float"
            dequantized.name = name
            for index in outputs:
                self.body.outputs[index] = dequantized

    def _parameters_of(self, value: ir.Value) -> tuple[Activation, Parameters]:
        producer = value.producer()
        if producer in self.quantized and is_op(producer, *MOVERS):
            assert producer is not None
            source = producer.inputs[0]
            assert source is not None
            return self.parameters[source]
        numbers = asymmetric_u8(*self.ranges.of(self.sources[value]))
        return numbers, add_parameters(self.body, str(value.name), numbers)

    def quantize_weights(self) -> None:
        for node in tuple(self.body):
            if node not in self.quantized or not is_op(node, "Conv", "Gemm"):
                continue
            x, kernel = node.inputs[0], float_constant(node.inputs[1])
            assert x is not None
            assert kernel is not None
            axis = channel_axis(node)
            given = node.inputs[2] if len(node.inputs) > 2 else None
            bias = float_constant(given)
            if bias is None:
                bias = np.zeros(kernel.shape[axis], np.float32)
            x_scale = self.parameters[x][0].scale
            weight = quantize_weight(
                kernel,
                axis,
                bias=bias.reshape(-1),
                x_scale=x_scale,
                largest_code=self.largest_code,
            )
            codes, scale = quantize_bias(bias.reshape(-1), x_scale, weight.scale)
            name = f"{node.name}.bias" if given is None else str(given.name)
            replace_weight(self.body, node, 1, axis, weight)
            replace_bias(self.body, node, name, codes, scale)
            self.counts["raised channels"] += weight.raised
