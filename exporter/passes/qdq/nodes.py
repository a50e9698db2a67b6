"""Put Q/DQ nodes into a graph: on an activation, on a weight, on a bias.

For a tensor `T` the pair is `T -> T.quantize -> T.quantized -> T.dequantize -> T.dequantized`, with
the constants `T.scale` and `T.zero_point`; a weight or bias `W` becomes the constant `W.quantized`
with its `W.dequantize`. So every tensor still carries its module path, `T` keeps its name, and the
float weight is gone from the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from exporter.passes.qdq.arithmetic import Activation, Weight
from exporter.passes.values import (
    add_constant,
    constant,
    free_name,
    insert_behind,
    is_op,
    why_not_private,
)

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
"""The types of the tensors that a Q/DQ pair can stand on."""


@dataclass(frozen=True)
class Parameters:
    """The scale and zero point of a tensor, as constants of the graph."""

    scale: ir.Value
    zero_point: ir.Value


def add_parameters(body: ir.Graph, name: str, numbers: Activation | Weight) -> Parameters:
    """The constants `<name>.scale` and `<name>.zero_point`."""
    if isinstance(numbers, Weight):
        zero_point = np.zeros(numbers.scale.shape, numbers.codes.dtype)
    else:
        zero_point = np.asarray(numbers.zero_point)
    return Parameters(
        add_constant(body, f"{name}.scale", np.asarray(numbers.scale)),
        add_constant(body, f"{name}.zero_point", zero_point),
    )


def add_pair(body: ir.Graph, value: ir.Value, parameters: Parameters) -> ir.Value:
    """Q/DQ behind a tensor; returns the dequantized one, which nobody reads yet."""
    tape = Tape()
    names = [f"{value.name}.{what}" for what in ("quantized", "dequantized")]
    codes, numbers = (free_name(body, name) for name in names)
    quantized = tape.op(
        "QuantizeLinear",
        [value, parameters.scale, parameters.zero_point],
        name=free_name(body, f"{value.name}.quantize"),
        output=ir.val(codes, parameters.zero_point.dtype, value.shape),
    )
    dequantized = tape.op(
        "DequantizeLinear",
        [quantized, parameters.scale, parameters.zero_point],
        name=free_name(body, f"{value.name}.dequantize"),
        output=ir.val(numbers, value.dtype, value.shape),
    )
    insert_behind(body, value, tape.nodes)
    return dequantized


def replace_weight(
    body: ir.Graph, node: ir.Node, index: int, axis: int, weight: Weight
) -> Parameters:
    """Makes a node read `weight` in place of the float constant at `index`.

    `axis` is stated even where it is 0: DequantizeLinear's default is 1.
    """
    old = node.inputs[index]
    assert old is not None
    codes = add_constant(body, f"{old.name}.quantized", weight.codes)
    parameters = add_parameters(body, str(old.name), weight)
    _dequantized_constant(body, node, index, codes, parameters, axis)
    return parameters


def replace_bias(
    body: ir.Graph,
    node: ir.Node,
    name: str,
    codes: np.ndarray,
    scale: np.ndarray,
) -> None:
    """Makes a Conv or Gemm read an int32 bias (C,), whether it had a bias or not."""
    values = add_constant(body, f"{name}.quantized", codes)
    parameters = Parameters(
        add_constant(body, f"{name}.scale", scale),
        add_constant(body, f"{name}.zero_point", np.zeros(codes.shape, np.int32)),
    )
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    _dequantized_constant(body, node, 2, values, parameters, 0)


def is_quantized(value: ir.Value | None) -> bool:
    """Whether a value comes out of a DequantizeLinear."""
    return value is not None and is_op(value.producer(), "DequantizeLinear")


def quantized_weight(node: ir.Node) -> tuple[ir.Node, np.ndarray] | None:
    """The DequantizeLinear of a Conv's or Gemm's weight and its codes, where nobody else reads it.

    None as well where the code of zero is not 0.
    """
    value = node.inputs[1]
    dequantize = value.producer() if value is not None else None
    if value is None or dequantize is None or not is_op(dequantize, "DequantizeLinear"):
        return None
    codes = constant(dequantize.inputs[0])
    zero_point = constant(dequantize.inputs[2]) if len(dequantize.inputs) > 2 else None
    if codes is None or why_not_private(value) or (zero_point is not None and zero_point.any()):
        return None
    return dequantize, codes


def float_constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant of a floating-point type."""
    array = constant(value)
    return array if array is not None and array.dtype.kind == "f" else None


def _dequantized_constant(
    body: ir.Graph,
    node: ir.Node,
    index: int,
    codes: ir.Value,
    parameters: Parameters,
    axis: int,
) -> None:
    name = str(codes.name).removesuffix(".quantized")
    tape = Tape()
    dequantized = tape.op(
        "DequantizeLinear",
        [codes, parameters.scale, parameters.zero_point],
        {"axis": axis},
        name=f"{name}.dequantize",
        output=ir.val(f"{name}.dequantized", parameters.scale.dtype, codes.shape),
    )
    body.insert_before(node, tape.nodes)
    node.replace_input_with(index, dequantized)
