"""The float32 network that a quantized or half-precision graph stands for.

Q/DQ and casts between floats are looked through, constants are dequantized and widened. A runtime
that quantizes lets a pair whose zero point is the smallest code stand for the Relu before it
(ONNX Runtime's own quantizer removes the Relu): behind an operator whose result may be negative it
is put back, so that the network answers what the given graph does but for the rounding.

The nodes that stay keep their names. For graphs that other tools made; ours are made from such a
network and never need it back.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport
from exporter.errors import InputError
from exporter.passes.values import Array, add_constant, constant, free_name, is_op

_FLOATS: Final = (
    ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE,
)  # fmt: skip
_MAY_BE_NEGATIVE: Final = ("Conv", "Add", "Gemm", "MatMul", "BatchNormalization", "Sum")
"""Operators that a Relu may have stood behind."""


def strip_quantization(graph: ir.Model) -> PassReport:
    """Makes a graph float32, in place; counts the Q/DQ nodes and the casts that went.

    Raises:
        InputError: constants in a form that cannot be dequantized.
    """
    body = graph.graph
    fired = 0
    for node in tuple(body):
        if is_op(node, "DequantizeLinear") and (codes := constant(node.inputs[0])) is not None:
            value = add_constant(body, f"{node.name}.float", _dequantized(node, codes))
        elif is_op(node, "QuantizeLinear"):
            value = _clamped(body, node)
        elif is_op(node, "DequantizeLinear") or _is_float_cast(node):
            value = _first_of(node)
        else:
            continue
        _replace(body, node, value)
        fired += 1
    _widen(body)
    common.RemoveUnusedNodesPass()(graph)
    common.ShapeInferencePass()(graph)
    return PassReport("strip_quantization", fired)


def dequantized_weight(value: ir.Value | None) -> Array | None:
    """A constant in float32, dequantized where it is quantized; None: it is computed."""
    producer = value.producer() if value is not None else None
    if producer is not None and is_op(producer, "DequantizeLinear"):
        codes = constant(producer.inputs[0])
        return None if codes is None else _dequantized(producer, codes)
    array = constant(value)
    return None if array is None else array.astype(np.float32)


def _first_of(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _is_float_cast(node: ir.Node) -> bool:
    if not is_op(node, "Cast"):
        return False
    given = _first_of(node).dtype
    return (given is None or given in _FLOATS) and node.outputs[0].dtype in _FLOATS


def _clamped(body: ir.Graph, quantize: ir.Node) -> ir.Value:
    """What a QuantizeLinear reads, behind a Relu where its saturation is one."""
    value = _first_of(quantize)
    zero = constant(quantize.inputs[2]) if len(quantize.inputs) > 2 else np.zeros(1, np.uint8)
    producer = value.producer()
    if zero is None or zero.dtype.kind not in "iu" or not is_op(producer, *_MAY_BE_NEGATIVE):
        return value
    if (zero != np.iinfo(zero.dtype).min).any():
        return value
    assert producer is not None
    name = free_name(body, f"{producer.name}.relu")
    relu = ir.node("Relu", [value], name=name)
    relu.outputs[0].name = name
    relu.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    relu.outputs[0].shape = value.shape
    body.insert_after(producer, relu)
    for reader, index in tuple(value.uses()):  # the float tensor is no other than the clamped one
        if reader is not relu:
            reader.replace_input_with(index, relu.outputs[0])
    return relu.outputs[0]


def _dequantized(node: ir.Node, codes: Array) -> Array:
    scale = constant(node.inputs[1])
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None or node.attributes.get_int("block_size", 0) != 0:
        raise InputError(
            f"the weight of {node.name!r} is quantized in blocks or with a computed scale, which "
            "no convolution here is; quantize it per tensor or per channel"
        )
    shape = [1] * codes.ndim
    if scale.size > 1:
        shape[node.attributes.get_int("axis", 1)] = scale.size
    numbers = codes.astype(np.float32)
    if zero is not None and zero.any():
        numbers = numbers - zero.astype(np.float32).reshape(shape)
    result: Array = numbers * scale.astype(np.float32).reshape(shape if scale.size > 1 else ())
    return result


def _replace(body: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Has what reads a node's output read `value`; an output of the graph keeps its name."""
    old = node.outputs[0]
    is_output = old.is_graph_output()
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    body.remove(node, safe=True)  # which leaves no use of what it read
    if is_output and value.producer() is not None:
        value.name = old.name


def _widen(body: ir.Graph) -> None:
    for value in tuple(body.initializers.values()):
        array = constant(value)
        if array is not None and value.dtype in _FLOATS and value.dtype is not ir.DataType.FLOAT:
            value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)  # a copy shares its types
    for value in (*body.inputs, *(output for node in body for output in node.outputs)):
        if value.dtype in _FLOATS or _holds_codes(value):
            value.type = ir.TensorType(ir.DataType.FLOAT)  # a copy shares its types


def _holds_codes(value: ir.Value) -> bool:
    """Whether 8 bits are what is left of a pair: what moved the codes now moves the numbers."""
    producer = value.producer()
    if value.dtype not in (ir.DataType.INT8, ir.DataType.UINT8) or producer is None:
        return False
    return not is_op(producer, "Cast") and _first_of(producer).dtype is ir.DataType.FLOAT
