"""Give every node, tensor and weight a unique, readable name: its module path.

    node and its output      layer1.0.conv2, layer1.0.relu, layer1.0.relu_1, layer1.0.add, fc
    weights                  layer1.0.conv2.weight, layer1.0.conv2.bias

Runtimes drop metadata and rename nodes when they optimize; tensor names survive, so whatever must
be found again in an engine has to be in them. The path of a node is taken from, in this order:
  1. the metadata `pkg.torch.onnx.name_scopes` that torch.onnx writes (`['', 'layer1', 'layer1.0',
     'layer1.0.conv2', 'conv2d_2']`: module by module, then the operation; text of any other form
     there is ignored);
  2. a name in the style of the older PyTorch exporter (`/layer1/layer1.0/conv2/Conv`);
  3. the name that the node has; without one, its operator in small letters.
A module that does one thing gives its own path as the name; an operation in the `forward` of a
module that has children adds the operator's name (`layer1.0.add`).
With blocks given, each node inside one is named `<block>.<something>`.
The graph's inputs and outputs keep their names: they are the interface.
A name that a later pass gives to what it adds to a tensor (`OURS`) is no other node's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx
import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.passes.values import is_op, operator_name

SCOPES = "pkg.torch.onnx.name_scopes"
"""The key of the module paths in the metadata that torch.onnx writes."""
_ROLES = {
    "Conv": ("x", "weight", "bias"),
    "ConvTranspose": ("x", "weight", "bias"),
    "Gemm": ("x", "weight", "bias"),
    "BatchNormalization": ("x", "weight", "bias", "running_mean", "running_var"),
    "PRelu": ("x", "weight"),
}
"""What a layer's inputs are to it, where that says more than the operator's definition."""
OURS = frozenset(
    {
        "bf16", "dequantize", "dequantized", "float", "fp16", "fp32", "quantize", "quantized",
        "scale", "zero_point",
    }
)  # fmt: skip
"""What passes put behind a tensor's name and a dot to name what they add to it."""
_QUOTED = r"""'[^'\\]*'|"[^"\\]*\""""
_SCOPES_LIST = re.compile(rf"\[(?:(?:{_QUOTED})(?:, (?:{_QUOTED}))*)?\]")
"""The form in which torch.onnx writes its module paths: a list of quoted names."""
_MODULE_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)+")


def name_tensors(graph: ir.Model, blocks: Mapping[str, str] | None = None) -> PassReport:
    """Counts as fired each name that changed.

    `blocks` maps a node's present name to the residual block that it is in.
    """
    body = graph.graph
    nodes = list(body)
    interface = {str(value.name) for value in (*body.inputs, *body.outputs)}
    bases = _base_names(nodes)
    if blocks is None:  # later, such names are our own
        tensors = {*bases, *interface}
        bases = [_free_of_ours(base, tensors) for base in bases]
    if blocks:
        bases = [
            _inside(blocks.get(str(node.name)), base, operator_name(node))
            for node, base in zip(nodes, bases, strict=True)
        ]
    names = _NameSpace(interface)
    fired = 0
    renamed: dict[ir.Value, str] = {}
    for node, base in zip(nodes, bases, strict=True):
        name = names.take(base, own={str(v.name) for v in node.outputs if v.is_graph_output()})
        fired += node.name != name
        node.name = name
        for index, output in enumerate(node.outputs):
            if not output.is_graph_output():
                renamed[output] = name if index == 0 else names.take(f"{name}.{index}")
    for node in nodes:
        for index, value in enumerate(node.inputs):
            if value is None or value in renamed or not value.is_initializer():
                continue
            if not value.is_graph_input() and not value.is_graph_output():
                renamed[value] = names.take(_weight_name(node, index, value))
    changed = {value: name for value, name in renamed.items() if value.name != name}
    ir.convenience.rename_values(list(changed), list(changed.values()))
    return PassReport("name_tensors", fired + len(changed))


class _NameSpace:
    """Names in use. A second taker of a name gets a number."""

    def __init__(self, reserved: set[str]) -> None:
        self._taken = reserved

    def take(self, name: str, own: set[str] | frozenset[str] = frozenset()) -> str:
        """`own` are reserved names that this taker may have: its own outputs'."""
        unique, number = name, 1
        while unique in self._taken and unique not in own:
            unique = f"{name}_{number}"
            number += 1
        self._taken.add(unique)
        return unique


def _base_names(nodes: list[ir.Node]) -> list[str]:
    """A name for each node, not yet unique."""
    paths = [_module_path(node) for node in nodes]
    containers = {"", *(p for path in paths if path is not None for p in _parents(path))}
    operators: dict[str, set[str]] = {}
    for node, path in zip(nodes, paths, strict=True):
        if path is not None:
            operators.setdefault(path, set()).add(node.op_type)
    names = []
    for node, path in zip(nodes, paths, strict=True):
        if path is None:
            names.append(_readable(node.name or "") or operator_name(node))
        elif path in containers or len(operators[path]) > 1:
            names.append(f"{path}.{operator_name(node)}".removeprefix("."))
        else:
            names.append(path)
    return names


def _free_of_ours(name: str, tensors: set[str]) -> str:
    """`data.fp16` beside a tensor `data` becomes `data_fp16`: a later pass may add that to it."""
    ours = name.rpartition(".")[2] in OURS and not tensors.isdisjoint(_parents(name))
    return name.replace(".", "_") if ours else name


def _module_path(node: ir.Node) -> str | None:
    """The dotted path of the module whose `forward` made the node; "": the model's own."""
    scopes = _listed(node.metadata_props.get(SCOPES, ""))
    if scopes is not None:
        path = scopes[-2] if len(scopes) > 1 else ""
        return "" if path.startswith("_empty_nn_module_stack") else _readable(path)
    if node.name and node.name.startswith("/"):
        return _path_of_slashes(node.name)
    return None


def _listed(text: str) -> list[str] | None:
    """The strings of a list as Python writes it; None for any other text.

    It is matched, not evaluated: a stranger's file may hold anything there.
    """
    if _SCOPES_LIST.fullmatch(text) is None:
        return None
    return [quoted[1:-1] for quoted in re.findall(_QUOTED, text)]


def _path_of_slashes(name: str) -> str:
    """`/layer1/layer1.0/downsample/downsample.0/Conv` -> `layer1.0.downsample.0`.

    A child of an nn.Sequential repeats its parent's name, other children do not.
    """
    path: list[str] = []
    for segment in name.split("/")[1:-1]:
        if path and segment.startswith(f"{path[-1]}."):
            path.pop()
        path.append(segment)
    return _readable(".".join(path))


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _readable(name: str) -> str:
    return re.sub(r"[^\w.]+", "_", name, flags=re.ASCII).strip("_.")


def _inside(block: str | None, base: str, operator: str) -> str:
    if block is None or base.startswith(f"{block}."):
        return base
    # A number that was given to tell an operator from its likes elsewhere says nothing in here.
    unnumbered = operator if re.fullmatch(rf"{operator}_\d+", base) else base
    # A block that is one of several in a module: `layer1.block2` holds `layer1.conv`.
    parent = block.rpartition(".")[0]
    return f"{block}.{unnumbered.removeprefix(f'{parent}.')}"


def _weight_name(node: ir.Node, index: int, value: ir.Value) -> str:
    """By its role where the operator is a layer; else as PyTorch named the parameter."""
    if node.domain == "" and node.op_type in _ROLES:
        return f"{node.name}.{_ROLES[node.op_type][index]}"
    scope = str(node.name).rpartition(".")[0]
    own = str(value.name)
    if _MODULE_PATH.fullmatch(own) and own.startswith(scope):
        return own
    return f"{node.name}.{_input_name(node, index)}"


def _input_name(node: ir.Node, index: int) -> str:
    """What the operator's definition calls its input."""
    if not is_op(node, node.op_type):
        return f"input_{index}"
    declared = onnx.defs.get_schema(node.op_type).inputs
    return str(declared[index].name).lower() if index < len(declared) else f"input_{index}"
