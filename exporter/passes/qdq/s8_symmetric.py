"""The dialects `s8-symmetric` and, in FP8, `e4m3-symmetric`: what TensorRT and TensorRT-RTX fuse.

    DQ(x) DQ(W) b -> Conv                            an 8-bit convolution with float bias
    Conv -+-> Add, DQ(shortcut) -> Add [-> Relu]     the sum goes into the convolution's kernel

Symmetric codes, zero point 0, activations per tensor, weights per output channel. Pairs stand on
the *inputs* of Conv and Gemm. At a residual Add the shortcut alone has one: an identity shares the
pair of the block's first convolution, a projection has its own on its output. The main branch's
last convolution goes into the Add as it is, or the Add would run in float (TensorRT#1992). Pooling
and everything else stays in the graph's float type.

Source: NVIDIA's guide to explicit quantization, and the placement of Model Optimizer for ResNet-50.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

import numpy.typing as npt
import onnx_ir as ir

from exporter.passes.blocks import find_residual_blocks
from exporter.passes.qdq.arithmetic import (
    Activation,
    Weight,
    quantize_weight,
    quantize_weight_e4m3,
    symmetric_e4m3,
    symmetric_s8,
)
from exporter.passes.qdq.nodes import (
    FLOATS,
    add_pair,
    add_parameters,
    float_constant,
    replace_weight,
)
from exporter.passes.qdq.ranges import Ranges
from exporter.passes.qdq.tensors import channel_axis, source_of_values, why_float_weights
from exporter.passes.values import is_op

Counts = dict[str, int]
Refused = list[tuple[str, str]]


@dataclass(frozen=True)
class _Format:
    """How numbers become codes."""

    activation: Callable[[float, npt.DTypeLike], Activation]
    """From the bound of a tensor's range and the type of its scale."""
    weight: Callable[..., Weight]
    """From a weight, its channels' axis and `dtype`, the type of its scales."""
    fewest_channels: int = 1
    """Of a convolution's input, for it to be quantized."""


def place_s8_symmetric(
    graph: ir.Model, ranges: Ranges, kept: Collection[ir.Node], largest_code: int
) -> tuple[Counts, Refused]:
    """Puts the pairs in, in place; counts what computes in INT8 and names what does not."""
    weight = partial(quantize_weight, largest_code=largest_code)
    return _place(graph, ranges, kept, _Format(symmetric_s8, weight))


def place_e4m3_symmetric(
    graph: ir.Model,
    ranges: Ranges,
    kept: Collection[ir.Node],
    largest_code: int,  # noqa: ARG001 - nothing saturates in FP8
) -> tuple[Counts, Refused]:
    """The same in FP8, all but a convolution of the image.

    TensorRT-RTX computes that in float, and then dequantizes its weights in a kernel of their own.
    """
    return _place(graph, ranges, kept, _Format(symmetric_e4m3, quantize_weight_e4m3, 5))


def _place(
    graph: ir.Model, ranges: Ranges, kept: Collection[ir.Node], numbers: _Format
) -> tuple[Counts, Refused]:
    body = graph.graph
    counts = dict.fromkeys(("convs", "gemms", "adds", "pools", "kept"), 0)
    refused: Refused = []
    shortcuts = _shortcuts(graph)
    readers: list[tuple[ir.Node, int]] = []
    for node in body:
        if node not in shortcuts and not is_op(node, "Conv", "Gemm"):
            continue
        reason = None if node in shortcuts else why_float_weights(node)
        if reason is None and is_op(node, "Conv") and _channels(node) < numbers.fewest_channels:
            reason = "it reads the image, which is computed in float"
        if node in kept:
            counts["kept"] += 1
            reason = "kept in float as asked"
        if reason is not None:
            refused.append((str(node.name), reason))
            continue
        readers.append((node, shortcuts.get(node, 0)))
        counts["adds" if node in shortcuts else "convs" if is_op(node, "Conv") else "gemms"] += 1
    _quantize_inputs(body, ranges, readers, numbers)
    for node, _ in readers:
        if node not in shortcuts:
            _quantize_weight(body, node, numbers)
    return counts, refused


def _channels(conv: ir.Node) -> int:
    """Of a convolution's input."""
    weight = float_constant(conv.inputs[1])
    assert weight is not None
    return int(weight.shape[1]) * conv.attributes.get_int("group", 1)


def _shortcuts(graph: ir.Model) -> Mapping[ir.Node, int]:
    """Residual Add -> which of its inputs is the shortcut."""
    sums = {block.add: block.input for block in find_residual_blocks(graph)}
    return {
        node: _shortcut_of(node, sums[str(node.outputs[0].name)])
        for node in graph.graph
        if node.outputs[0].name in sums
    }


def _shortcut_of(add: ir.Node, fork: str) -> int:
    """The input with fewer convolutions behind it; between equals, the second.

    That is the identity, or a projection's single convolution beside the two or three of the block.
    """
    depths = [_depth(value, fork) for value in add.inputs]
    return 0 if depths[0] < depths[1] else 1


def _depth(value: ir.Value | None, fork: str) -> int:
    """The most convolutions on a path from the fork."""
    known: dict[ir.Value, int] = {}

    def depth(of: ir.Value) -> int:
        producer = of.producer()
        if of.name == fork or producer is None:
            return 0
        if of not in known:
            before = max((depth(v) for v in producer.inputs if v is not None), default=0)
            known[of] = before + is_op(producer, "Conv")
        return known[of]

    return 0 if value is None else depth(value)


def _quantize_inputs(
    body: ir.Graph, ranges: Ranges, readers: list[tuple[ir.Node, int]], numbers: _Format
) -> None:
    """One pair for each tensor, shared by those of `readers` that read it."""
    pairs: dict[ir.Value, ir.Value] = {}
    for node, index in readers:
        value = node.inputs[index]
        assert value is not None
        if value not in pairs:
            assert value.dtype in FLOATS
            largest = ranges.largest(str(source_of_values(value).name))
            activation = numbers.activation(largest, value.dtype.numpy())
            parameters = add_parameters(body, str(value.name), activation)
            pairs[value] = add_pair(body, value, parameters)
        node.replace_input_with(index, pairs[value])


def _quantize_weight(body: ir.Graph, node: ir.Node, numbers: _Format) -> None:
    array = float_constant(node.inputs[1])
    assert array is not None
    axis = channel_axis(node)
    replace_weight(body, node, 1, axis, numbers.weight(array, axis, dtype=array.dtype))
