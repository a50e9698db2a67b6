"""What the passes ask of a value in the graph, and how they add a constant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.tape import Tape

Array = npt.NDArray[Any]


def constant(value: ir.Value | None) -> Array | None:
    """The array behind an initializer; None where the value is absent or can change at run time.

    An initializer that is also a graph input is a default that the caller may override.
    """
    if value is None or value.is_graph_input() or value.const_value is None:
        return None
    return value.const_value.numpy()


def why_not_private(value: ir.Value) -> str | None:
    """Why a value cannot be absorbed by its reader: somebody else sees it. None: nobody does."""
    if value.is_graph_output():
        return f"{value.name} is a graph output"
    readers = len(value.uses())
    if readers != 1:
        return f"{value.name} has {readers} readers"
    return None


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether a node is one of these operators of the standard domain."""
    return node is not None and node.domain == "" and node.op_type in op_types


def is_inside(name: str, module: str) -> bool:
    """Whether a node is a module, or inside one, by its name: `layer1.0.conv2` is in `layer1`."""
    return name == module or name.startswith(f"{module}.")


def operator_name(node: ir.Node) -> str:
    """The operator in small letters: `global_average_pool`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", node.op_type).lower()


def dims(value: ir.Value | None) -> tuple[int | str | None, ...] | None:
    """A value's dimensions: sizes, names of dynamic ones, None for unknown; None: no shape."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def is_one_per_channel(bias: Array, channels: int) -> bool:
    """Whether a bias has one number for each column of the (N, channels) that it is added to.

    A column (channels, 1) has as many numbers and is broadcast the other way.
    """
    return np.atleast_1d(bias).shape in ((channels,), (1, channels))


def add_constant(body: ir.Graph, name: str, array: Array) -> ir.Value:
    """A new initializer; its name gets a number where it is taken."""
    taken = body.initializers
    unique, number = name, 1
    while unique in taken:
        unique = f"{name}_{number}"
        number += 1
    return Tape(body).initializer(ir.tensor(array, name=unique))


def free_name(body: ir.Graph, name: str) -> str:
    """A name for something new, numbered where the graph's input or output has it."""
    interface = {value.name for value in (*body.inputs, *body.outputs)}
    unique, number = name, 1
    while unique in interface:
        unique = f"{name}_{number}"
        number += 1
    return unique


def insert_behind(body: ir.Graph, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
    """Puts nodes behind the one that makes a value; a graph input's come first."""
    producer = value.producer()
    if producer is None:
        body.insert_before(body[0], nodes)
    else:
        body.insert_after(producer, nodes)


def replace_constant(body: ir.Graph, node: ir.Node, index: int, array: Array) -> None:
    """Gives one reader a constant of its own, under the old name where nobody else reads that."""
    old = node.inputs[index]
    assert old is not None
    name = str(old.name)
    if len(old.uses()) == 1 and not old.is_graph_output():
        node.replace_input_with(index, None)
        del body.initializers[name]
    node.replace_input_with(index, add_constant(body, name, array))
