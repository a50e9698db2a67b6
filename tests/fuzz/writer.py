"""A random ONNX graph while it is written: every node that is in it is valid.

A node's shapes are inferred as it is added; one that ONNX calls invalid, or whose result would be
large, is left out again. All random choices come from one `random.Random`, so a graph is known by
its seed, and hypothesis can shrink it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Item = TypeVar("Item")

LARGEST: Final = 8192
"""The most elements of one tensor."""
NAMES: Final = ("", "{kind}_{index}", "/layer{index}/{kind}", "{last}.quantize", "{last}.fp16")
"""How a graph names its nodes: not at all, plainly, as PyTorch's older exporter does, or as our own
passes name what they add."""


class Tensor(NamedTuple):
    """What a node may read."""

    name: str
    shape: tuple[int, ...]
    kind: int = TensorProto.FLOAT


class Writer:
    """Collects nodes, weights and the tensors that are made."""

    def __init__(self, choices: random.Random, opset: int, image: Tensor) -> None:
        self.random = choices
        self.opset = opset
        self.naming = self.pick(NAMES)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self.tensors = [image]
        """The newest last."""
        self._numbers = np.random.RandomState(choices.randint(0, 2**31))

    def pick(self, items: Sequence[Item]) -> Item:
        return self.random.choice(items)

    def between(self, low: int, high: int) -> int:
        """Both included."""
        return self.random.randint(low, high)

    def once_in(self, times: int) -> bool:
        return self.random.randint(1, times) == 1

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        """Normal numbers; now and then those of another node."""
        same = [
            w.name for w in self.weights.values() if tuple(w.dims) == shape and w.data_type == 1
        ]
        if same and self.once_in(4):
            return self.pick(same)
        return self.constant(self._numbers.standard_normal(shape) * scale, np.float32)

    def positive(self, *shape: int) -> str:
        return self.constant(self._numbers.uniform(0.5, 1.5, shape), np.float32)

    def constant(self, values: Any, dtype: npt.DTypeLike = np.int64) -> str:
        """The name of a new initializer."""
        name = f"w{len(self.weights)}"
        self.weights[name] = numpy_helper.from_array(np.asarray(values, dtype), name)
        return name

    def op(
        self, kind: str, inputs: Sequence[str | Tensor], outputs: int = 1, **attributes: Any
    ) -> Tensor | None:
        """The node's first result; None: there is no such node."""
        if "kernel_shape" in attributes and not _fits(inputs[0], attributes):
            return None
        names = [one.name if isinstance(one, Tensor) else one for one in inputs]
        index = len(self.nodes)
        made = [f"t{index}" if i == 0 else f"t{index}_{i}" for i in range(outputs)]
        name = self.naming.format(kind=kind, index=index, last=self.tensors[-1].name)
        node = helper.make_node(kind, names, made, name=name, **attributes)
        found = self._made_by(node)
        if found is None:
            return None
        self.nodes.append(node)
        self.tensors += found
        return found[0]

    def _made_by(self, node: onnx.NodeProto) -> list[Tensor] | None:
        """The node's results; None: it is not valid, or they are large."""
        tensors = {tensor.name: tensor for tensor in self.tensors}
        types, data = {}, {}
        for name in filter(None, node.input):
            if name in self.weights:
                data[name] = self.weights[name]
                types[name] = _type(data[name].data_type, tuple(data[name].dims))
            else:
                types[name] = _type(tensors[name].kind, tensors[name].shape)
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data,
                opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10,
            )  # fmt: skip
        except (
            onnx.defs.SchemaError,
            onnx.checker.ValidationError,
            onnx.shape_inference.InferenceError,
            RuntimeError,
        ):
            return None
        results = []
        for name in node.output:
            result = found[name].tensor_type if name in found else None
            if result is None or not result.HasField("shape"):
                return None
            shape = tuple(size.dim_value for size in result.shape.dim)
            if min(shape, default=1) < 1 or np.prod(shape) > LARGEST:
                return None
            results.append(Tensor(name, shape, result.elem_type))
        return results


def _fits(x: str | Tensor, attributes: dict[str, Any]) -> bool:
    """Whether there is a window: ONNX infers one where the kernel is larger than the image."""
    assert isinstance(x, Tensor)
    pads = attributes.get("pads", [0] * 4)
    dilations = attributes.get("dilations", [1, 1])
    return all(
        (attributes["kernel_shape"][axis] - 1) * dilations[axis]
        < x.shape[2 + axis] + pads[axis] + pads[2 + axis]
        for axis in (0, 1)
    )


def _type(kind: int, shape: tuple[int, ...]) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(kind, shape)
