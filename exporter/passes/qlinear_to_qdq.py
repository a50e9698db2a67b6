"""Write QLinear operators as the Q/DQ that they mean.

    y = QLinearConv(x, w, b)    ->    y = Q(Conv(DQ(x), DQ(w), DQ(b))),  b int32, scale of x times w

and alike for products, sums, pools, activations and concatenations: ONNX's own, and those of ONNX
Runtime in `com.microsoft`, which `quantize_static(quant_format=QOperator)` writes. What only moves
codes (MaxPool, Reshape, ...) gets a pair on both sides. The codes are the same but where a result
lies between two: the operators sum in integers, Q/DQ in floats.

The node that computes keeps the operator's name and metadata. Operators of these domains whose form
is not known here stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.errors import InputError
from exporter.passes.qdq.tensors import MOVERS
from exporter.passes.values import add_constant, constant, is_op

MICROSOFT: Final = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


@dataclass(frozen=True)
class _Form:
    """Where an operator has what: each tensor as the positions of codes, scale and zero point."""

    op: str
    """What it computes on numbers."""
    operands: tuple[int, ...]
    """The positions of codes; scale and zero point follow."""
    result: int
    """The position of the result's scale; its zero point follows."""
    bias: int | None = None


_FORMS: Final[Mapping[tuple[str, str], _Form]] = MappingProxyType(
    {
        ("", "QLinearConv"): _Form("Conv", (0, 3), 6, bias=8),
        ("", "QLinearMatMul"): _Form("MatMul", (0, 3), 6),
        (MICROSOFT, "QGemm"): _Form("Gemm", (0, 3), 7, bias=6),
        (MICROSOFT, "QLinearAdd"): _Form("Add", (0, 3), 6),
        (MICROSOFT, "QLinearMul"): _Form("Mul", (0, 3), 6),
        (MICROSOFT, "QLinearGlobalAveragePool"): _Form("GlobalAveragePool", (0,), 3),
        (MICROSOFT, "QLinearAveragePool"): _Form("AveragePool", (0,), 3),
        (MICROSOFT, "QLinearLeakyRelu"): _Form("LeakyRelu", (0,), 3),
        (MICROSOFT, "QLinearSigmoid"): _Form("Sigmoid", (0,), 3),
        (MICROSOFT, "QLinearSoftmax"): _Form("Softmax", (0,), 3),
        (MICROSOFT, "QLinearConcat"): _Form("Concat", (), 0),  # its operands are from 2 on
    }
)
QLINEAR: Final = frozenset(_FORMS)
"""(domain, operator) of each whose Q/DQ form is known."""
_OF_QLINEAR: Final = frozenset({"channels_last", "opset"})
"""Attributes that only the QLinear operator has."""


def qlinear_to_qdq(graph: ir.Model) -> PassReport:
    """Counts as fired each operator that is Q/DQ now, in place.

    Raises:
        InputError: an operator has too few inputs, a scale that is computed, or channels last.
    """
    body = graph.graph
    found = [node for node in body if (node.domain, node.op_type) in QLINEAR]
    if not found:
        return PassReport("qlinear_to_qdq", 0)
    for node in found:
        _check(node, _FORMS[node.domain, node.op_type])
    around: dict[ir.Value, _Quantized] = {}
    for node in tuple(body):
        form = _FORMS.get((node.domain, node.op_type))
        source = node.inputs[0] if node.inputs else None
        if form is not None:
            _spell_out(body, node, form, around)
        elif is_op(node, "QuantizeLinear"):
            around[node.outputs[0]] = _Quantized(node.outputs[0], *node.inputs[1:3])
        elif is_op(node, *MOVERS) and source in around:
            pair = around[source]
            _put(body, node, node.op_type, [_dequantized(body, node, pair)], pair, around)
    graph.opset_imports.pop(MICROSOFT, None)
    return PassReport("qlinear_to_qdq", len(found))


@dataclass(frozen=True)
class _Quantized:
    """A tensor of codes, or where its result goes, and what the codes mean."""

    codes: ir.Value | None
    scale: ir.Value | None
    zero_point: ir.Value | None


def _check(node: ir.Node, form: _Form) -> None:
    this = f"node {node.name!r} is {node.op_type}"
    operands = _operands(node, form)
    needed = [place for index in operands for place in (index, index + 1)]
    if form.op != "Gemm" or _input(node, form.result) is not None:  # which may end in float
        needed += [form.result, form.result + 1]
    absent = [place for place in needed if _input(node, place) is None]
    if absent or not operands:
        raise InputError(f"{this} without its input {absent[0] if absent else 2}")
    if node.attributes.get_int("channels_last", 0) != 0:
        raise InputError(f"{this} with channels_last=1, which ONNX has no form for")
    has_bias = form.bias is not None and _input(node, form.bias) is not None
    if has_bias and any(constant(node.inputs[index + 1]) is None for index in operands):
        raise InputError(f"{this} with a bias and a computed scale, which has no Q/DQ form")


def _operands(node: ir.Node, form: _Form) -> tuple[int, ...]:
    return form.operands or tuple(range(2, len(node.inputs), 3))


def _spell_out(
    body: ir.Graph, node: ir.Node, form: _Form, around: dict[ir.Value, _Quantized]
) -> None:
    given = [_quantized(node, index, index + 1) for index in _operands(node, form)]
    inputs = [_dequantized(body, node, one, _channel_axis(node, form.op, one)) for one in given]
    bias = _input(node, form.bias) if form.bias is not None else None
    if bias is not None:
        scale = _bias_scale(body, node, [one.scale for one in given])
        inputs.append(_dequantized(body, node, _Quantized(bias, scale, None), 0))
    result = _quantized(node, None, form.result)
    _put(body, node, form.op, inputs, result if result.scale is not None else None, around)


def _quantized(node: ir.Node, codes: int | None, scale: int) -> _Quantized:
    value = None if codes is None else node.inputs[codes]
    parameters = [_as_scalar(_input(node, index)) for index in (scale, scale + 1)]
    return _Quantized(value, *parameters)


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _as_scalar(value: ir.Value | None) -> ir.Value | None:
    """One scale or zero point for a tensor: in Q/DQ it has no dimension."""
    numbers = constant(value)
    if value is not None and numbers is not None and numbers.size == 1 and numbers.ndim:
        value.const_value = ir.tensor(numbers.reshape(()), name=value.name)
        value.shape = ir.Shape(())
    return value


def _channel_axis(node: ir.Node, op: str, tensor: _Quantized) -> int:
    """Where a weight has the channels that it may have a scale for each of."""
    if op == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) != 0 else 1
    numbers = constant(tensor.codes) if op == "MatMul" else None
    return 0 if numbers is None else numbers.ndim - 1


def _dequantized(body: ir.Graph, node: ir.Node, tensor: _Quantized, axis: int = 1) -> ir.Value:
    """The numbers behind codes, in front of the node that reads them."""
    scale = constant(tensor.scale)
    inputs = [tensor.codes, tensor.scale, tensor.zero_point]
    per_channel = scale is not None and scale.size > 1
    dequantize = ir.node(
        "DequantizeLinear",
        inputs if tensor.zero_point is not None else inputs[:2],
        {"axis": axis} if per_channel else {},
    )
    dequantize.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    body.insert_before(node, dequantize)
    return dequantize.outputs[0]


def _bias_scale(body: ir.Graph, node: ir.Node, scales: list[ir.Value | None]) -> ir.Value:
    """Input's times weight's, and alpha of a product."""
    x, weight = (np.asarray(constant(scale), np.float32) for scale in scales)
    alpha = np.float32(node.attributes.get_float("alpha", 1.0))
    return add_constant(body, f"{node.name}.bias_scale", np.asarray(alpha * (x * weight)))


def _put(
    body: ir.Graph,
    node: ir.Node,
    op: str,
    inputs: Sequence[ir.Value],
    result: _Quantized | None,
    around: dict[ir.Value, _Quantized],
) -> None:
    """Puts the operator on numbers in the place of one on codes, behind it what quantizes."""
    moved = () if op != node.op_type else node.inputs[1:]  # the shape of a Reshape
    attributes = [one for name, one in node.attributes.items() if name not in _OF_QLINEAR]
    computes = ir.Node(
        "", op, [*inputs, *moved], attributes, name=node.name, metadata_props=node.metadata_props
    )
    computes.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    computes.outputs[0].shape = node.outputs[0].shape
    new = [computes]
    if result is not None:
        parameters = [result.scale, result.zero_point]
        quantize = ir.node("QuantizeLinear", [computes.outputs[0], *parameters])
        assert result.zero_point is not None  # by `_check`
        quantize.outputs[0].type = result.zero_point.type
        new.append(quantize)
        around[quantize.outputs[0]] = replace(result, codes=quantize.outputs[0])
    ir.convenience.replace_nodes_and_values(
        body, node, [node], new, node.outputs[:1], new[-1].outputs
    )
