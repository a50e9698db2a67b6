"""Which version of the operators an ONNX file ends up in: ours, or its own where that is newer.

Some operators of opset 21 and later have no form in ours (GroupNormalization-21, Swish-24), or
none that onnx's converter knows (GlobalMaxPool-22). A file with one keeps its own opset, which the
runtimes of this machine read as well; what does not is told by the engine that cannot be built.
"""

from __future__ import annotations

import re
from typing import Final

import onnx
from onnx import helper

from exporter.models.onnx_conversion import converted
from exporter.models.onnx_format import IR_VERSION, OPSET
from exporter.runtime.errors import reason_of

_WITHOUT_A_FORM: Final = re.compile(
    r"No Adapter (?:From|To) Version \$?\d+ for (\w+)|No Previous Version of (\w+) exists"
)
"""How onnx's converter says which operator it cannot convert."""


def in_our_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in our opset; one of a newer opset that has no way down is given back.

    Raises:
        RuntimeError: it has no way up, or another error of onnx's converter.
    """
    try:
        return converted(model)
    except RuntimeError as error:
        if model.opset_import[0].version > OPSET and operator_without_a_form(error):
            return model
        raise


def why_not_converted(error: BaseException, model: onnx.ModelProto) -> str:
    """What onnx's converter stopped at, in the operators' terms where it is one."""
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and len(node.output) > 1:
            return (
                f"node {node.name or node.output[0]!r} (BatchNormalization) also gives the "
                "statistics of its batch: it is in training mode; export it after eval()"
            )
    operator = operator_without_a_form(error)
    if operator is not None:
        return (
            f"{operator} of opset {model.opset_import[0].version} cannot be converted to opset "
            f"{OPSET}; export the model with that"
        )
    return f"it is not a valid ONNX model: {reason_of(error)}"


def operator_without_a_form(error: BaseException) -> str | None:
    """The operator that onnx's converter stopped at; None: it stopped at something else."""
    found = _WITHOUT_A_FORM.search(str(error))
    return found and (found[1] or found[2])


def format_version(opset: int) -> int:
    """The oldest version of the file format that may hold this opset, ours at least."""
    oldest: int = helper.find_min_ir_version_for([helper.make_opsetid("", opset)], True)
    return max(IR_VERSION, oldest)


def drop_unread_outputs(graph: onnx.GraphProto) -> None:
    """Takes away optional outputs that nobody reads, in place: a mask of Dropout, a pool's indices.

    Not those of a BatchNormalization: with them it is in training mode.
    """
    read = {name for node in graph.node for name in node.input}
    read.update(value.name for value in graph.output)
    for node in graph.node:
        while len(node.output) > 1 and node.output[-1] not in read:
            if not _is_optional(node, len(node.output) - 1):
                break
            del node.output[-1]


def _is_optional(node: onnx.NodeProto, index: int) -> bool:
    if node.op_type == "BatchNormalization":
        return False
    outputs = onnx.defs.get_schema(node.op_type).outputs
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    return index < len(outputs) and outputs[index].option == optional
