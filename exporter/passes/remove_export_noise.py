"""Remove what an exporter writes besides the network: shape arithmetic, constants, no-ops.

Folded: everything that depends on constants alone. PyTorch builds the zero bias of each
convolution without one from the weight's shape (Shape, Expand, CastLike); that bias then goes, for
the module has none. A bias that was in the file stays, zeros or not.
Removed: Identity (but between two outputs), Dropout at inference, Cast to the same type; the
computed target of a Reshape whose result is known up to one dimension becomes the constant (-1,
known sizes); an Expand to the shape of what its readers add it to or multiply it by, as they do
that themselves (`expand_as` in an ECA gate).
Not touched: anything that reads the graph's input and changes a number.

The folding is onnxscript's (`onnxscript.optimizer.fold_constants`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants

from exporter.artifact import PassReport
from exporter.passes.values import add_constant, constant, dims, insert_behind, is_op

_LARGEST_INPUT = 2**28
"""The most elements of a constant that is folded: weights are (a transposed matrix, a standardised
kernel)."""
_LARGEST_OUTPUT = 2**20
"""The most elements that folding may make of smaller constants."""


def remove_export_noise(graph: ir.Model) -> PassReport:
    """Counts as fired each node that is gone."""
    body = graph.graph
    before = len(body)
    given = set(body.initializers.values())
    outputs = [str(value.name) for value in body.outputs]
    _forget_unread_masks(body)
    fold_constants(graph, input_size_limit=_LARGEST_INPUT, output_size_limit=_LARGEST_OUTPUT)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    common.IdentityEliminationPass()(graph)
    _keep_outputs_apart(body, outputs)
    dropped = _drop_made_up_biases(body, given)
    settled = _settle_reshapes(body)
    _drop_expands(body)
    common.RemoveUnusedNodesPass()(graph)
    common.RemoveUnusedFunctionsPass()(graph)  # type: ignore[no-untyped-call]
    common.RemoveUnusedOpsetsPass()(graph)
    return PassReport(
        "remove_export_noise",
        fired=before - len(body),
        counts={"zero biases dropped": dropped, "reshape targets settled": settled},
    )


def _forget_unread_masks(body: ir.Graph) -> None:
    """Dropout's second output, read by nobody, would come back as ConstantOfShape."""
    for node in body:
        if is_op(node, "Dropout") and len(node.outputs) == 2:
            mask = node.outputs[1]
            if not mask.uses() and not mask.is_graph_output():
                node.resize_outputs(1)


def _keep_outputs_apart(body: ir.Graph, names: list[str]) -> None:
    """Gives an output back its Identity, where it became one tensor with another output."""
    for index, (value, name) in enumerate(zip(list(body.outputs), names, strict=True)):
        if value.name != name:
            output = ir.val(name, value.dtype, value.shape)
            insert_behind(body, value, [ir.node("Identity", [value], name=name, outputs=[output])])
            body.outputs[index] = output


def _drop_made_up_biases(body: ir.Graph, given: set[ir.Value]) -> int:
    dropped = 0
    for node in body:
        if not is_op(node, "Conv") or len(node.inputs) < 3:
            continue
        bias = node.inputs[2]
        array = constant(bias)
        if bias not in given and array is not None and not np.any(array):
            node.resize_inputs(2)
            dropped += 1
    return dropped


def _drop_expands(body: ir.Graph) -> None:
    """Has the readers broadcast; OpenVINO made such an Expand a copy, and kept the sum behind."""
    for node in body:
        if not is_op(node, "Expand") or node.outputs[0].is_graph_output():
            continue
        value, shape = node.outputs[0], dims(node.outputs[0])
        readers = value.consumers()
        if shape is None or None in shape or not readers:
            continue
        given = node.inputs[0]
        if given is not None and all(_is_broadcast_to(reader, value, shape) for reader in readers):
            value.replace_all_uses_with(given)


def _is_broadcast_to(reader: ir.Node, value: ir.Value, shape: tuple[int | str | None, ...]) -> bool:
    """Whether an operator of two values gives the other, which has that shape, one of its own."""
    if reader.op_type not in ("Add", "Mul") or reader.domain:
        return False
    others = [given for given in reader.inputs if given is not value]
    return len(others) == 1 and dims(others[0]) == shape


def _settle_reshapes(body: ir.Graph) -> int:
    settled = 0
    for node in body:
        if not is_op(node, "Reshape") or constant(node.inputs[1]) is not None:
            continue
        sizes = dims(node.outputs[0])
        if sizes is None or sum(not isinstance(size, int) for size in sizes) > 1:
            continue
        target = np.array([s if isinstance(s, int) else -1 for s in sizes], dtype=np.int64)
        if 0 in target:
            continue
        node.replace_input_with(1, add_constant(body, f"{node.name}.shape", target))
        node.attributes.pop("allowzero", None)
        settled += 1
    return settled
