"""TensorRT's own list of the kernels it built, read strictly.

At VERBOSE the builder prints `Parsing node: NAME [OP]` for each ONNX node, and at the end a block
that starts with `Layers:`, one line a kernel:

    Name: layer1.0.conv3_U18_myl0_10, LayerType: correlation,
    Inputs: [ { Name: .., Dimensions: [-1,64,56,56], Strides: [..], StrideOrder: [..],
    Datatype: Half, Format: (NHWC) Channel major format }, ..], Constants: [..], Outputs: [..],
    TacticName: .., StreamId: 0,
    Metadata: [ONNX Layer: layer1.0.conv3]<US>[ONNX Layer: layer1.0.add]    <US>: unit separator

`layer_list_file` keeps both, verbatim, between a header and a footer of ours; `parse_layer_list`
reads such a file back. Whatever does not fit the form that was measured (TensorRT-RTX 1.7, on
ResNets of every variant) raises `UnreadableKernels`, so that a receipt is `unverified` rather than
guessed. Beyond the form of each line, the account must add up: kernels numbered from 0 without a
gap, each input written by an earlier kernel or a network input, each tensor written once, and each
Conv, Add, Relu and Gemm of the graph done by exactly one kernel.

What a kernel does is for `operations.py` to tell. Names of tensors tell nothing: the builder
names them after any node that touches them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from exporter.artifact import ElementType, Operation
from exporter.targets.target import UnreadableKernels
from exporter.targets.tensorrt.operations import (
    NO_KERNELS,
    OPERATORS,
    PRODUCTS,
    what_it_does,
)
from exporter.targets.tensorrt.records import (
    DTYPES,
    LayerList,
    LayerRecord,
    LayerTensor,
    check_complete,
)

Bindings = dict[str, ElementType]
"""The network's inputs or outputs, each with its type."""

HEADER: Final = re.compile(
    r"(?P<library>TensorRT(?:-RTX)?) (?P<version>\d+(?:\.\d+)*), built for (?P<built_for>[\w ]+)"
)
FOOTER: Final = re.compile(r"End of list: (?P<nodes>\d+) nodes, (?P<layers>\d+) layers")

_NODE: Final = re.compile(r"Parsing node: (?P<name>[^\x1f\[\]]+) \[(?P<op>\w+)\]")
_FIELDS: Final = (
    ", LayerType: ", ", Inputs: [", "], Constants: [", "], Outputs: [",
    "], TacticName: ", ", StreamId: ", ", Metadata: ",
)  # fmt: skip
_TENSOR: Final = re.compile(
    r"\{ Name: (?P<name>[^,\s{}\[\]]+), Dimensions: \[(?P<dims>-?\d+(?:,-?\d+)*)?\], "
    r"Strides: \[[\d,-]*\], StrideOrder: \[[\d,]*\], Datatype: (?P<dtype>\w+), "
    r"Format: \(\w+\) [\w ]+ \}"
)
_METADATA: Final = re.compile(r"\[ONNX Layer: (?P<name>[^\x1f\[\]]+)\](?P<note>\w*)")
_STREAM: Final = re.compile(r"\d+(?:, EventId: \d+)?")
_NUMBERED: Final = re.compile(r".*_myl(?P<graph>\d+)_(?P<index>\d+)")
_BINDING: Final = re.compile(
    r" Name: (?P<name>[^,\s]+), IOMode: (?P<mode>Input|Output), DataType: (?P<dtype>\w+), "
    r"Dimensions: \[(?P<dims>-?\d+(?:,-?\d+)*)?\], .*"
)


def layer_list_file(header: str, messages: Iterable[str]) -> str:
    """The text that `parse_layer_list` reads, from all messages of a VERBOSE builder log.

    Only the node and layer lists are kept; neither holds a path of the build machine.
    """
    said = list(messages)
    nodes = node_lines(said)
    body = "\n".join(m.rstrip("\n") for m in said if m.startswith("Layers:\n"))
    count = sum(line.startswith("Name: ") for line in body.split("\n"))
    footer = f"End of list: {len(nodes)} nodes, {count} layers"
    return "\n".join([header, *nodes, body, footer, ""])


def node_lines(messages: Iterable[str]) -> list[str]:
    """The lines of a VERBOSE builder log that tell the ONNX nodes, in the order of the graph."""
    return [message for message in messages if message.startswith("Parsing node: ")]


def parse_nodes(lines: Iterable[str]) -> dict[str, str]:
    """ONNX node -> operator, from `node_lines`.

    Raises:
        UnreadableKernels: two nodes have one name, or a line is in an unknown form.
    """
    nodes: dict[str, str] = {}
    for line in lines:
        found = _NODE.fullmatch(line)
        if found is None:
            raise UnreadableKernels(f"not an ONNX node's line: {_shown(line)}")
        if found["name"] in nodes:
            raise UnreadableKernels(f"two ONNX nodes are called {found['name']}")
        nodes[found["name"]] = found["op"]
    return nodes


def parse_layer_list(text: str) -> LayerList:
    """Reads a file of `layer_list_file`.

    Raises:
        UnreadableKernels: the text is not in the known form or does not add up; says where.
    """
    lines = text.split("\n")
    header = HEADER.fullmatch(lines[0])
    if header is None:
        raise UnreadableKernels("the layer list does not start with the library and its version")
    footer = FOOTER.fullmatch(lines[-2]) if len(lines) > 2 and not lines[-1] else None
    if footer is None or lines.count("Layers:") != 1:
        raise UnreadableKernels("the layer list is cut off or holds more than one list")
    start = lines.index("Layers:")
    nodes = parse_nodes(lines[1:start])
    body = lines[start + 1 : -2]
    if "" not in body:
        raise UnreadableKernels("the layer list names no network inputs and outputs")
    end = body.index("")
    layers = tuple(_parse_layer(line, nodes) for line in body[:end])
    if (len(nodes), len(layers)) != (int(footer["nodes"]), int(footer["layers"])):
        raise UnreadableKernels("the layer list has lost lines: its footer counts others")
    inputs, outputs = _parse_bindings(body[end + 1 :])
    _check_order(layers)
    _check_flow(layers, inputs, outputs)
    check_complete(layers, nodes)
    library = f"{header['library']} {header['version']}"
    bindings = frozenset([*inputs, *outputs])
    return LayerList(library, header["built_for"], nodes, layers, bindings)


def _parse_layer(line: str, nodes: Mapping[str, str]) -> LayerRecord:
    values = []
    if not line.startswith("Name: "):
        raise UnreadableKernels(f"not a kernel's line: {_shown(line)}")
    rest = line.removeprefix("Name: ")
    for field in _FIELDS:
        if rest.count(field) != 1:
            raise UnreadableKernels(f"no single {field.strip(', :[]')!r} in {_shown(line)}")
        value, _, rest = rest.partition(field)
        values.append(value)
    name, kind, inputs, constants, outputs, _tactic, stream = values
    if not _STREAM.fullmatch(stream):
        raise UnreadableKernels(f"a stream that is no number in {_shown(line)}")
    listed = _parse_metadata(rest, line)
    for node in listed:
        if node not in nodes:
            raise UnreadableKernels(f"{name} names {node}, which is no node of the graph")
        if nodes[node] not in OPERATORS:
            raise UnreadableKernels(f"{name} names {node}, a {nodes[node]}: not a known operator")
    # The builder lists nodes in another order each time.
    listed = tuple(sorted(listed, key=list(nodes).index))
    record = LayerRecord(
        name=name,
        type=kind,
        inputs=_parse_tensors(inputs, line),
        constants=_parse_tensors(constants, line),
        outputs=_parse_tensors(outputs, line),
        nodes=listed,
        does=what_it_does(name, kind, [OPERATORS[nodes[node]] for node in listed]),
    )
    works = bool(record.inputs and record.outputs)
    if works is (kind in NO_KERNELS):
        raise UnreadableKernels(f"{name}: a {kind} with or without tensors, unlike any before")
    _check_sum(record)
    _check_product(record)
    return record


def _check_sum(layer: LayerRecord) -> None:
    """A kernel that sums reads both branches; one that reads two tensors and adds, sums."""
    sums = Operation.ADD in layer.does
    if sums and len(layer.inputs) < 2:
        raise UnreadableKernels(f"{layer.name} claims a residual sum and reads one tensor")
    adds = not PRODUCTS.isdisjoint(layer.does) or "Add" in layer.name
    if not sums and len(layer.inputs) > 1 and adds:
        raise UnreadableKernels(f"{layer.name} reads two tensors and claims no residual sum")


def _check_product(layer: LayerRecord) -> None:
    """A convolution writes images (perhaps flattened, as a matrix product of them), a Gemm rows."""
    images = bool(layer.outputs) and len(layer.outputs[0].dims) > 2
    conv, gemm = Operation.CONV in layer.does, Operation.GEMM in layer.does
    if (conv and not images) or (gemm and images):
        raise UnreadableKernels(f"{layer.name} writes another shape than its Conv or Gemm would")
    weighted = any(len(constant.dims) > 1 for constant in layer.constants)
    if (conv or gemm) and not weighted:
        raise UnreadableKernels(f"{layer.name} multiplies with no weights")


def _parse_metadata(text: str, line: str) -> tuple[str, ...]:
    """The nodes of `[ONNX Layer: a]` items; a few are followed by `__gemm_from_conv1x1`."""
    if not text:
        return ()
    names = []
    for item in text.split("\x1f"):
        found = _METADATA.fullmatch(item)
        if found is None:
            raise UnreadableKernels(f"unknown metadata {item[:80]!r} in {_shown(line)}")
        names.append(found["name"])
    return tuple(dict.fromkeys(names))


def _parse_tensors(text: str, line: str) -> tuple[LayerTensor, ...]:
    tensors: list[LayerTensor] = []
    position = 0
    while position < len(text):
        lead = ", " if tensors else " "
        found = _TENSOR.match(text, position + len(lead))
        if found is None or not text.startswith(lead, position):
            raise UnreadableKernels(f"an unknown tensor in {_shown(line)}")
        if found["dtype"] not in DTYPES:
            raise UnreadableKernels(f"{found['name']} has the unknown type {found['dtype']}")
        tensors.append(LayerTensor(found["name"], _dims(found["dims"]), DTYPES[found["dtype"]]))
        position = found.end()
    return tuple(tensors)


def _dims(text: str | None) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(",")) if text else ()


def _parse_bindings(lines: Sequence[str]) -> tuple[Bindings, Bindings]:
    """The network's inputs and its outputs, each name with its type."""
    if not lines or lines[0] != "I/O Tensors:" or "" not in lines:
        raise UnreadableKernels("the layer list has no closed section of inputs and outputs")
    names: dict[str, Bindings] = {"Input": {}, "Output": {}}
    for line in lines[1 : lines.index("")]:
        found = _BINDING.fullmatch(line)
        if found is None or found["dtype"] not in DTYPES:
            raise UnreadableKernels(f"an unknown input or output: {_shown(line)}")
        names[found["mode"]][found["name"]] = DTYPES[found["dtype"]]
    if not names["Input"] or not names["Output"]:
        raise UnreadableKernels("the layer list names no network inputs or no outputs")
    return names["Input"], names["Output"]


def _check_order(layers: Sequence[LayerRecord]) -> None:
    for index, layer in enumerate(layers):
        found = _NUMBERED.fullmatch(layer.name)
        if found is None or (found["graph"], found["index"]) != ("0", str(index)):
            raise UnreadableKernels(f"{layer.name} is not the kernel number {index} of one graph")


def _check_flow(layers: Sequence[LayerRecord], inputs: Bindings, outputs: Bindings) -> None:
    """Is each tensor written once, before it is read, and of one type?"""
    written = dict(inputs)
    for layer in layers:
        for tensor in layer.inputs:
            if tensor.name not in written:
                raise UnreadableKernels(f"{layer.name} reads {tensor.name}, which nothing wrote")
            if tensor.dtype != written[tensor.name]:
                raise UnreadableKernels(f"{tensor.name} is written and read as different types")
        for tensor in layer.outputs:
            if tensor.name in written:
                raise UnreadableKernels(f"{tensor.name} is written twice")
            written[tensor.name] = tensor.dtype
    for name, dtype in outputs.items():
        if written.get(name) != dtype:
            raise UnreadableKernels(f"no kernel writes the output {name} as {dtype}")


def _shown(line: str) -> str:
    return repr(line[:100])
