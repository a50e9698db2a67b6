"""Write the classifier head in one form: GlobalAveragePool, Flatten, Gemm (transB = 1).

    ReduceMean over the last two axes of (N, C, H, W)     -> GlobalAveragePool [+ Flatten]
    AveragePool whose window is the whole (H, W)          -> GlobalAveragePool
    Reshape or Squeeze of (N, C, 1, 1) to (N, C)          -> Flatten(axis=1)
    MatMul(x, W) + b, with constant W (I, O) and b (O,)   -> Gemm(x, W^T, b)
    Gemm(x, W) with constant W (I, O), transB = 0         -> Gemm(x, W^T)

Runtimes have quantization and fusion rules for these operators and not for the others (ReduceMean
has none in ONNX Runtime). The result is the same number up to the order of summation.
Must not fire: the mean is over other axes, of another rank or of integers; a Transpose on the way
to the row changes the order of the elements (a channel shuffle); the product's weight or bias is
not a constant, the bias is not one number for each output, or somebody else reads the product
before the bias is added.
"""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport
from exporter.passes.values import (
    add_constant,
    constant,
    dims,
    is_one_per_channel,
    is_op,
    operator_name,
    why_not_private,
)


def canonicalize_head(graph: ir.Model) -> PassReport:
    """Counts as fired each operator that was rewritten."""
    body = graph.graph
    rules = (_mean, _whole_average_pool, _flattening, _product, _untransposed_gemm)
    fired = 0
    for node in list(body):
        fired += any(node.graph is body and rule(body, node) for rule in rules)
    common.RemoveUnusedNodesPass()(graph)
    return PassReport("canonicalize_head", fired)


def _mean(body: ir.Graph, node: ir.Node) -> bool:
    if not is_op(node, "ReduceMean"):
        return False
    x = node.inputs[0]
    axes = node.attributes.get_ints("axes", ())  # an attribute before opset 18
    if len(node.inputs) > 1:
        given = constant(node.inputs[1])
        axes = () if given is None else given.tolist()
    if len(dims(x) or ()) != 4 or sorted(axis % 4 for axis in axes) != [2, 3]:
        return False
    if x is None or x.dtype is None or not x.dtype.is_floating_point():
        return False
    if node.attributes.get_int("keepdims", 1):
        _replace(body, node, ir.node("GlobalAveragePool", [x]))
        return True
    known = dims(x)
    assert known is not None
    pooled = ir.val(f"{node.name}.pool", x.dtype, (*known[:2], 1, 1))
    pool = ir.node("GlobalAveragePool", [x], name=pooled.name, outputs=[pooled])
    body.insert_before(node, pool)
    _replace(body, node, ir.node("Flatten", [pooled], {"axis": 1}))
    return True


def _whole_average_pool(body: ir.Graph, node: ir.Node) -> bool:
    if not is_op(node, "AveragePool") or node.attributes.get_string("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    ):
        return False
    size = dims(node.inputs[0])
    window = tuple(node.attributes.get_ints("kernel_shape", ()))
    padded = any(node.attributes.get_ints("pads", ()))
    if size is None or size[2:] != window or len(window) != 2 or padded:
        return False
    _replace(body, node, ir.node("GlobalAveragePool", [node.inputs[0]]))
    return True


def _flattening(body: ir.Graph, node: ir.Node) -> bool:
    if not is_op(node, "Reshape", "Squeeze"):
        return False
    source = _before_rearranging(node.inputs[0])
    before, after = dims(source), dims(node.outputs[0])
    if before is None or after is None or len(before) != 4 or len(after) != 2:
        return False
    if before[2:] != (1, 1) or not isinstance(after[1], int) or after[1] != before[1]:
        return False
    _replace(body, node, ir.node("Flatten", [source], {"axis": 1}))
    return True


def _before_rearranging(value: ir.Value | None) -> ir.Value | None:
    """(N, C, 1, 1) before steps that leave its elements in order, as TensorFlow's head has them."""
    source = value
    while source is not None and is_op(source.producer(), "Reshape", "Squeeze", "Transpose"):
        node = source.producer()
        assert node is not None
        if is_op(node, "Transpose") and not _keeps_order(node):
            break
        source = node.inputs[0]
    known = dims(source)
    return source if known is not None and len(known) == 4 and known[2:] == (1, 1) else value


def _keeps_order(transpose: ir.Node) -> bool:
    """Whether only axes of length 1 change places, so that the elements stay in order."""
    sizes = dims(transpose.inputs[0])
    if sizes is None:
        return False
    order = transpose.attributes.get_ints("perm", tuple(reversed(range(len(sizes)))))
    longer = [axis for axis in order if sizes[axis] != 1]
    return longer == sorted(longer)


def _product(body: ir.Graph, node: ir.Node) -> bool:
    """MatMul + Add, from the MatMul."""
    if not is_op(node, "MatMul") or why_not_private(node.outputs[0]):
        return False
    weight = constant(node.inputs[1])
    add = node.outputs[0].consumers()[0]
    if weight is None or weight.ndim != 2 or len(dims(node.inputs[0]) or ()) != 2:
        return False
    if not is_op(add, "Add"):
        return False
    other = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
    bias = constant(other)
    if bias is None or not is_one_per_channel(bias, weight.shape[1]):
        return False
    gemm = ir.node(
        "Gemm",
        [
            node.inputs[0],
            add_constant(body, f"{node.name}.weight", np.ascontiguousarray(weight.T)),
            add_constant(body, f"{node.name}.bias", bias.reshape(-1)),
        ],
        {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1},
    )
    _replace(body, add, gemm)
    gemm.name = _renamed(str(node.name), operator_name(node), operator_name(gemm))
    body.remove(node, safe=True)
    return True


def _untransposed_gemm(body: ir.Graph, node: ir.Node) -> bool:
    if not is_op(node, "Gemm") or node.attributes.get_int("transB", False):
        return False
    weight = constant(node.inputs[1])
    if weight is None:
        return False
    transposed = np.ascontiguousarray(weight.T)
    node.replace_input_with(1, add_constant(body, f"{node.name}.weight", transposed))
    node.attributes.add(ir.AttrInt64("transB", 1))
    return True


def _replace(body: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """`new` takes the name, the place and the first output of `old`."""
    new.name = _renamed(str(old.name), operator_name(old), operator_name(new))
    new.metadata_props.update(old.metadata_props)
    ir.convenience.replace_nodes_and_values(body, old, [old], [new], old.outputs[:1], new.outputs)


def _renamed(name: str, old: str, new: str) -> str:
    """A name that ends in the old operator's ends in the new one's; others stay."""
    scope, dot, last = name.rpartition(".")
    return f"{scope}{dot}{new}" if re.fullmatch(rf"{old}(_\d+)?", last) else name
