"""Write what is quantized while it runs as the float operators that it stands for.

    q, s, z = DynamicQuantizeLinear(x)
    y = Cast(ConvInteger(q, w, z, z_w)) * (s * s_w) + b    ->    y = Conv(x, (w - z_w) * s_w, b)

and alike MatMulInteger, as ONNX Runtime's `quantize_dynamic` writes both. The scale and the zero
point of x are of each input anew, so that no Q/DQ stands for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport
from exporter.errors import InputError
from exporter.passes.values import Array, add_constant, constant, is_op, why_not_private

PRODUCTS: Final[Mapping[str, str]] = MappingProxyType(
    {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
)
"""Integer operator -> the one on numbers."""


def integer_to_float(graph: ir.Model) -> PassReport:
    """Counts as fired each product that is a float one now, in place.

    Raises:
        InputError: a product whose scales are not found.
    """
    body = graph.graph
    found = [node for node in body if is_op(node, *PRODUCTS)]
    for node in found:
        _spell_out(body, node)
    if found:
        common.RemoveUnusedNodesPass()(graph)
    return PassReport("integer_to_float", len(found))


def _spell_out(body: ir.Graph, node: ir.Node) -> None:
    quantize = _producer(node.inputs[0])
    scaled, weight_scale = _scaled(node)
    codes = constant(node.inputs[1])
    if not is_op(quantize, "DynamicQuantizeLinear") or scaled is None or codes is None:
        raise InputError(
            f"node {node.name!r} is {node.op_type} in another form than quantize_dynamic writes: "
            "no DynamicQuantizeLinear before it, no scales behind it, or a computed weight"
        )
    assert quantize is not None
    last, bias = _biased(scaled)
    numbers = _numbers(node, codes, weight_scale)
    inputs = [quantize.inputs[0], add_constant(body, f"{node.name}.weight", numbers)]
    if bias is not None and is_op(node, "ConvInteger"):
        inputs.append(add_constant(body, f"{node.name}.bias", bias))
        scaled = last
    product = ir.Node(
        "",
        PRODUCTS[node.op_type],
        inputs,
        node.attributes.values(),
        name=node.name,
        metadata_props=node.metadata_props,
    )
    ir.convenience.replace_nodes_and_values(
        body, scaled, [scaled], [product], scaled.outputs, product.outputs
    )


def _scaled(node: ir.Node) -> tuple[ir.Node | None, Array]:
    """The Mul behind a product that makes numbers of its sums, and the weight's scale."""
    casts = [reader for reader in node.outputs[0].consumers() if is_op(reader, "Cast")]
    readers = [reader for cast in casts for reader in cast.outputs[0].consumers()]
    for mul in readers:
        scales = next((p for value in mul.inputs if is_op(p := _producer(value), "Mul")), None)
        known = [constant(value) for value in scales.inputs] if scales is not None else []
        scale = next((one for one in known if one is not None), None)
        if is_op(mul, "Mul") and scale is not None:
            return mul, scale
    return None, np.ones((), np.float32)


def _biased(scaled: ir.Node) -> tuple[ir.Node, Array | None]:
    """The Add behind it of a bias that is reshaped to (1, C, 1, 1), and that bias (C,)."""
    readers = tuple(scaled.outputs[0].consumers())
    if why_not_private(scaled.outputs[0]) or not is_op(readers[0], "Add"):
        return scaled, None
    for value in readers[0].inputs:
        reshape = _producer(value)
        bias = constant(reshape.inputs[0]) if is_op(reshape, "Reshape") and reshape else None
        if bias is not None:
            return readers[0], bias.reshape(-1)
    return scaled, None


def _numbers(node: ir.Node, codes: Array, scale: Array) -> Array:
    """The weight (O, I, kH, kW) of a convolution or (I, O) of a product, in float32."""
    channels = (-1, *[1] * (codes.ndim - 1)) if is_op(node, "ConvInteger") else (-1,)
    zero = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    numbers = codes.astype(np.float32)
    if zero is not None:
        numbers = numbers - zero.astype(np.float32).reshape(channels if zero.size > 1 else ())
    result: Array = numbers * scale.reshape(channels if scale.size > 1 else ())
    return result.astype(np.float32)


def _producer(value: ir.Value | None) -> ir.Node | None:
    return value.producer() if value is not None else None
