"""An ONNX file in any precision that any tool wrote, as it stands: what `explain` looks into.

It is checked before use as every file of others is (`onnx_checks.py`). Nothing about it changes but
its names: what a runtime makes of it can only be found again by module path, so that its nodes and
tensors are named after the float32 network that it stands for (`passes/strip_quantization.py`).
QLinear operators are looked into as the Q/DQ that they mean (`passes/qlinear_to_qdq.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import Precision, TensorSpec
from exporter.errors import InputError
from exporter.models import onnx_checks as checks
from exporter.models.onnx_conversion import converted
from exporter.models.onnx_file import name_batch, parse, read_file, tensor_spec
from exporter.models.onnx_opset import why_not_converted
from exporter.models.onnx_weights import check_tensors, inline_external_data
from exporter.passes.blocks import GraphFacts, block_of_nodes, find_residual_blocks
from exporter.passes.integer_to_float import PRODUCTS, integer_to_float
from exporter.passes.name_tensors import name_tensors
from exporter.passes.qlinear_to_qdq import QLINEAR, qlinear_to_qdq
from exporter.passes.strip_quantization import strip_quantization
from exporter.passes.values import is_op
from exporter.runtime.errors import reason_of

_NODE: Final = "exporter.node"
"""The key of a node's number in its metadata: by that it is found again in the float32 network."""
_SCALES_OF_CHANNELS_SINCE: Final = 13
"""The opset in which QuantizeLinear and DequantizeLinear got an axis."""


@dataclass(frozen=True)
class LoweredFile:
    """What was given, and the float32 network that it stands for."""

    path: Path
    precision: Precision
    """What most of its convolutions were written to compute in."""
    written: ir.Model
    """As given, but for the names: those of `network`, and of tensors and numbers beside them."""
    graph: ir.Model
    """The same, with Q/DQ in the place of QLinear operators."""
    network: ir.Model
    facts: GraphFacts
    """Of `network`."""
    inputs: tuple[TensorSpec, ...]
    qlinear: int = 0
    """How many QLinear operators are written."""


def load_lowered(path: Path) -> LoweredFile:
    """Reads and checks an ONNX file of any precision.

    Raises:
        InputError: one line that says what is wrong with it.
    """
    name = str(path)
    model = parse(read_file(path, name), name)
    checks.check_text(model, name)
    checks.check_structure(model, name, lowered=True)
    inline_external_data(model, path.parent, name)
    check_tensors(model, name)
    checks.sort_nodes(model.graph, name)
    interface = checks.check_interface(model.graph, name, lowered=True)
    name_batch(interface, name)
    written = _prepared(model, name)
    graph = written.clone()
    qlinear = qlinear_to_qdq(graph).fired
    common.ShapeInferencePass()(graph)
    network = _named_network(graph, name)
    for one in (written, graph):
        _name_after(one, network)
    blocks = find_residual_blocks(network)
    return LoweredFile(
        path=path,
        precision=_precision_of(graph),
        written=written,
        graph=graph,
        network=network,
        facts=GraphFacts.of(network, (), blocks),
        inputs=tuple(
            tensor_spec(value, dtype)
            for value, dtype in zip(graph.graph.inputs, interface.dtypes, strict=True)
        ),
        qlinear=qlinear,
    )


def _prepared(model: onnx.ModelProto, name: str) -> ir.Model:
    """The graph with every constant an initializer, every node numbered, every shape inferred."""
    for one in (*model.opset_import, *model.graph.node):
        one.domain = "" if one.domain == "ai.onnx" else one.domain
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"{name} is not a valid ONNX model: {reason_of(error)}") from error
    model = _with_scales_of_channels(model, name)
    del model.graph.value_info[:]  # may be stale
    graph = ir.from_proto(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    common.RemoveInitializersFromInputsPass()(graph)
    common.ShapeInferencePass()(graph)
    for number, node in enumerate(graph.graph):
        node.metadata_props[_NODE] = str(number)
    return graph


def _with_scales_of_channels(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A file with QLinear operators in an opset whose Q/DQ may have a scale for each channel."""
    if not any((node.domain, node.op_type) in QLINEAR for node in model.graph.node):
        return model
    model.opset_import.sort(key=lambda opset: opset.domain)  # the standard one, "", first
    if model.opset_import[0].version >= _SCALES_OF_CHANNELS_SINCE:
        return model
    try:
        return converted(model)
    except RuntimeError as error:
        raise InputError(f"{name}: {why_not_converted(error, model)}") from error


def _named_network(graph: ir.Model, name: str) -> ir.Model:
    network = graph.clone()
    integer_to_float(network)
    strip_quantization(network)
    if not any(is_op(node, "Conv") for node in network.graph):
        raise InputError(f"{name} has no convolution: there is no kernel here to explain")
    name_tensors(network)
    name_tensors(network, block_of_nodes(find_residual_blocks(network)))
    return network


def _name_after(graph: ir.Model, network: ir.Model) -> None:
    """Gives the graph's nodes and tensors the network's names; what is only in the graph, its own.

    The two have the same interface, so that no name of it is taken.
    """
    body = graph.graph
    names = {node.metadata_props.get(_NODE, ""): str(node.name) for node in network.graph}
    renamed: dict[ir.Value, str] = {}
    taken = {str(value.name) for value in (*body.inputs, *body.outputs)} | set(names.values())

    def free(name: str) -> str:
        unique, number = name, 1
        while unique in taken:
            unique = f"{name}_{number}"
            number += 1
        taken.add(unique)
        return unique

    for node in body:
        number = node.metadata_props.get(_NODE)
        own = None if number is None else names.get(number)
        source = node.inputs[0] if node.inputs else None
        before = str(renamed.get(source, source.name)) if source is not None else "constant"
        node.name = own or free(f"{before}.{node.op_type.lower()}")
        for index, output in enumerate(node.outputs):
            if not output.is_graph_output():
                renamed[output] = node.name if index == 0 else free(f"{node.name}.{index}")
        for index, value in enumerate(node.inputs):
            fresh = value is not None and value.is_initializer() and value not in renamed
            if value is not None and fresh and not value.is_graph_input():
                renamed[value] = free(f"{node.name}.{index}")
    ir.convenience.rename_values(list(renamed), list(renamed.values()))


def _precision_of(graph: ir.Model) -> Precision:
    """By its Q/DQ or integer products, else by the type of its convolutions."""
    types = {node.outputs[0].dtype for node in graph.graph if is_op(node, "QuantizeLinear")}
    if any(kind is not None and "FLOAT8" in kind.name for kind in types):
        return Precision.FP8
    if types or any(is_op(node, "DequantizeLinear", *PRODUCTS) for node in graph.graph):
        return Precision.INT8
    halves = [
        node.inputs[1].dtype for node in graph.graph if is_op(node, "Conv") and node.inputs[1]
    ]
    for kind, precision in (
        (ir.DataType.FLOAT16, Precision.FP16),
        (ir.DataType.BFLOAT16, Precision.BF16),
    ):
        if 2 * halves.count(kind) > len(halves):
            return precision
    return Precision.FP32
