"""What an ONNX file made elsewhere must satisfy before anything reads its weights or runs it.

Each check raises one InputError that names the node or tensor. Nothing here trusts the file: the
graph may have cycles or nested subgraphs. Its weights are checked in `onnx_weights.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import TensorProto

from exporter.errors import InputError
from exporter.passes.qlinear_to_qdq import QLINEAR
from exporter.runtime.layout import CHANNELS, height_width_channels

OLDEST_OPSET = 9
"""The oldest version of the operators that is accepted."""
MOST_NODES = 100_000
"""A graph with more nodes is refused: no ResNet has a tenth of them."""
LARGEST_ACTIVATION = 2**28
"""The most elements of one tensor for one image: 1 GiB of float32."""

_INTEGER = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
"""Operators of graphs that are quantized while they run."""
_QUANTIZED = frozenset(
    {*QLINEAR, *(("", name) for name in ("QuantizeLinear", "DequantizeLinear", *_INTEGER))}
)
"""Operators of graphs that are quantized already, with their domains."""
_IMAGE_TYPES: Mapping[int, str] = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}
"""The types that an input may have, by numpy's name."""
_LOWERED_TYPES: Mapping[int, str] = {**_IMAGE_TYPES, TensorProto.FLOAT16: "float16"}
"""Those of a graph in a lower precision."""
_EXPECTED = "a batch of images, float32 or uint8, (N, C, H, W) or (N, H, W, C)"


@dataclass(frozen=True)
class Interface:
    """The inputs and the outputs of the graph."""

    inputs: tuple[onnx.ValueInfoProto, ...]
    outputs: tuple[onnx.ValueInfoProto, ...]
    dtypes: tuple[str, ...]
    """numpy's name of each input's type."""


def check_text(message: Message, name: str) -> None:
    """Raises InputError for a name that is not UTF-8 text: protobuf hands such out as bytes."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING):
            continue
        repeated = not isinstance(value, (str, bytes, Message))
        for item in value if repeated else (value,):
            if isinstance(item, Message):
                check_text(item, name)
            elif isinstance(item, bytes):
                raise InputError(f"{name}: the name {item!r} is not UTF-8 text; is it damaged?")


def check_structure(model: onnx.ModelProto, name: str, *, lowered: bool = False) -> None:
    """Refuses what the rest of the compiler does not expect in a graph.

    A graph that somebody `lowered` to 8 bits has Q/DQ, or operators that compute in integers.

    Raises:
        InputError: no graph, local functions, subgraphs, unknown operators or domains, an opset
            that is too old, quantized operators.
    """
    graph = model.graph
    if not graph.node or not model.opset_import:
        raise InputError(f"{name} is not an ONNX model: it has no graph")
    if len(graph.node) > MOST_NODES:
        raise InputError(f"{name} has {len(graph.node)} nodes; at most {MOST_NODES} are accepted")
    if model.functions:
        raise InputError(
            f"{name} defines functions of its own ({model.functions[0].name}); "
            "inline them first with onnx.inliner.inline_local_functions"
        )
    if graph.sparse_initializer:
        raise InputError(f"{name} has sparse weights; store them as dense ones")
    version = _opset(model, name)
    for node in graph.node:
        _check_node(node, version, name, lowered=lowered)


def _opset(model: onnx.ModelProto, name: str) -> int:
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise InputError(f"{name} imports no standard operators; nothing here could run it")
    if not OLDEST_OPSET <= versions[0] <= newest:
        raise InputError(
            f"{name} uses opset {versions[0]}; opsets {OLDEST_OPSET} to {newest} are accepted, "
            "export it again with one of them"
        )
    return int(versions[0])


def _check_node(node: onnx.NodeProto, version: int, name: str, *, lowered: bool) -> None:
    this = f"{name}: node {label(node)!r}"
    domain = "" if node.domain == "ai.onnx" else node.domain
    is_quantized = (domain, node.op_type) in _QUANTIZED
    if is_quantized and not lowered:
        raise InputError(
            f"{this} is {node.op_type}: give the float32 model, not a quantized one "
            f"(exporter explain {name} --target T --save-float F.onnx writes the one behind it)"
        )
    if domain and not is_quantized:
        operator = f"{node.domain}.{node.op_type}"
        raise InputError(
            f"{this} is {operator!r}, which is not a standard ONNX operator; "
            "export the model with standard ones"
        )
    if not domain and not onnx.defs.has(node.op_type, version, ""):
        raise InputError(f"{this} is {node.op_type!r}, an operator that opset {version} has not")
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            raise InputError(
                f"{this} ({node.op_type}) has a subgraph; control flow is not accepted, "
                "export the model with fixed shapes"
            )
        if attribute.ref_attr_name:
            raise InputError(f"{this} refers to an attribute of a function that is not there")


def label(node: onnx.NodeProto) -> str:
    """What messages call a node: its name, or the tensors that it makes."""
    return node.name or ", ".join(node.output)


def sort_nodes(graph: onnx.GraphProto, name: str) -> None:
    """Puts the nodes in an order in which each reads only what was made before (Kahn 1962).

    Raises:
        InputError: two nodes make one tensor, a tensor that nobody makes, a cycle.
    """
    made: set[str] = {""}
    made.update(value.name for value in graph.input)
    made.update(tensor.name for tensor in graph.initializer)
    maker: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for output in node.output:
            if output and (output in made or output in maker):
                raise InputError(f"{name}: the tensor {output!r} is made twice")
            maker[output] = index
    waiting_for: list[int] = []
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(graph.node):
        needed = {value for value in node.input if value not in made}
        missing = sorted(needed - maker.keys())
        if missing:
            raise InputError(
                f"{name}: node {label(node)!r} reads {missing[0]!r}, which nothing makes"
            )
        makers = {maker[value] for value in needed}
        waiting_for.append(len(makers))
        for producer in makers:
            readers.setdefault(producer, []).append(index)
    order = [index for index, count in enumerate(waiting_for) if count == 0]
    for index in order:  # grows while it is walked
        for reader in readers.get(index, ()):
            waiting_for[reader] -= 1
            if waiting_for[reader] == 0:
                order.append(reader)
    if len(order) < len(graph.node):
        stuck = next(n for n, count in zip(graph.node, waiting_for, strict=True) if count)
        raise InputError(f"{name}: the graph has a cycle through node {label(stuck)!r}")
    for output_info in graph.output:
        if output_info.name not in made and output_info.name not in maker:
            raise InputError(f"{name}: nothing makes the output {output_info.name!r}")
    if order != sorted(order):
        nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
        del graph.node[:]
        graph.node.extend(nodes)


def check_interface(graph: onnx.GraphProto, name: str, *, lowered: bool = False) -> Interface:
    """The inputs and the outputs; those of a `lowered` graph may be float16.

    Raises:
        InputError: no input, no output, an output that is listed twice, is a weight or an input
            itself, or inputs that are not a batch of images; beside one, others may be vectors.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if not inputs:
        raise InputError(f"{name} has no input; expected a batch of images")
    outputs = [value.name for value in graph.output]
    if not outputs:
        raise InputError(f"{name} has no output")
    for output in outputs:
        if outputs.count(output) > 1:
            raise InputError(f"{name} lists the output {output!r} twice")
        if output in weights or output in [value.name for value in inputs]:
            raise InputError(f"{name}: no node makes the output {output!r}; leave it out")
    types = _LOWERED_TYPES if lowered else _IMAGE_TYPES
    dtypes = tuple(_check_input(value, name, types, alone=len(inputs) == 1) for value in inputs)
    if not any(len(value.type.tensor_type.shape.dim) == 4 for value in inputs):
        names = ", ".join(value.name for value in inputs)
        raise InputError(f"{name}: none of the inputs {names} is a batch of images, {_EXPECTED}")
    return Interface(tuple(inputs), tuple(graph.output), dtypes)


def _check_input(
    value: onnx.ValueInfoProto, name: str, types: Mapping[int, str], *, alone: bool
) -> str:
    """Numpy's name of an input's type. Beside an image, an input may be a vector, (N, K)."""
    image = value.type.tensor_type
    expected = _EXPECTED if alone else f"{_EXPECTED}, or vectors, float32 (N, K)"
    if image.elem_type not in types:
        kinds = TensorProto.DataType.items()
        given = next((name for name, kind in kinds if kind == image.elem_type), "no tensor")
        raise InputError(f"{name}: the input {value.name!r} is {given}, expected {expected}")
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in image.shape.dim]
    dtype = types[image.elem_type]
    is_vector = not alone and len(sizes) == 2 and dtype == "float32"
    if len(sizes) != 4 and not is_vector:
        raise InputError(
            f"{name}: the input {value.name!r} has {len(sizes)} dimensions, expected {expected}"
        )
    if any(size is None or size <= 0 for size in sizes[1:]):
        which = "the length" if is_vector else "channels, height and width"
        raise InputError(
            f"{name}: {which} of the input {value.name!r} must be fixed; "
            "export the model with a fixed image size (only the batch may be dynamic)"
        )
    if not is_vector and height_width_channels(sizes[1:])[-1] not in CHANNELS:
        raise InputError(
            f"{name}: the input {value.name!r} has the shape {sizes}, expected {expected} "
            "with 1, 3 or 4 channels"
        )
    return dtype


def check_activations(graph: onnx.GraphProto, name: str) -> None:
    """Raises InputError for a tensor that no machine should try to hold."""
    for value in graph.value_info:
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.dim_value > 0]
        if math.prod(sizes) > LARGEST_ACTIVATION:
            raise InputError(
                f"{name}: the tensor {value.name!r} would have {math.prod(sizes):,} elements"
            )
