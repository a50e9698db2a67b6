"""An ONNX file written node by node, with seeded weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 24
CLASSES = 7
CHANNELS = 8


class File:
    """Collects nodes and seeded weights."""

    def __init__(self, opset: int = 17) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.numbers = np.random.RandomState(0)

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self.numbers.standard_normal(shape) * scale)

    def uniform(self, low: float, high: float, *shape: int) -> str:
        return self.constant(self.numbers.uniform(low, high, shape))

    def op(self, kind: str, inputs: Sequence[str], *more: str, **attributes: Any) -> str:
        """The name of the first result; `more` are those of others."""
        made = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [made, *more], **attributes))
        return made

    def conv(
        self, x: str, inputs: int = CHANNELS, outputs: int = CHANNELS, kernel: int = 3,
        *, bias: bool = True, groups: int = 1, **attributes: Any,
    ) -> str:  # fmt: skip
        fan_in = inputs // groups * kernel**2
        scale = float(np.sqrt(2 / fan_in))
        read = [x, self.normal(outputs, inputs // groups, kernel, kernel, scale=scale)]
        if bias:
            read.append(self.normal(outputs, scale=0.1))
        options = {"pads": [kernel // 2] * 4, "kernel_shape": [kernel] * 2, "group": groups}
        return self.op("Conv", read, **options, **attributes)

    def batchnorm(self, x: str, channels: int = CHANNELS, **attributes: Any) -> str:
        between = ((0.6, 1.2), (-0.3, 0.4), (-0.3, 0.3), (0.5, 1.5))
        parameters = [self.uniform(*limits, channels) for limits in between]
        return self.op("BatchNormalization", [x, *parameters], **attributes)

    def relu(self, x: str) -> str:
        return self.op("Relu", [x])

    def block(self, x: str) -> str:
        y = self.conv(self.relu(self.batchnorm(self.conv(x, bias=False))))
        return self.relu(self.op("Add", [y, x]))

    def stem(self, x: str = "data", channels: int = 3) -> str:
        return self.relu(self.conv(x, channels, strides=[2, 2]))

    def trunk(self) -> str:
        return self.block(self.stem())

    def rows(self, x: str) -> str:
        return self.op("Flatten", [self.op("GlobalAveragePool", [x])])

    def dense(self, x: str, inputs: int = CHANNELS) -> str:
        weights = self.normal(CLASSES, inputs, scale=0.4), self.normal(CLASSES, scale=0.1)
        return self.op("Gemm", [x, *weights], transB=1)

    def head(self, x: str) -> onnx.ModelProto:
        return self.model(self.dense(self.rows(x)))

    def model(
        self,
        result: str,
        *,
        shape: Sequence[int | str] = ("N", 3, SIDE, SIDE),
        kind: int = TensorProto.FLOAT,
        made: int = TensorProto.FLOAT,
        out: Sequence[int | str] = ("N", CLASSES),
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("data", kind, shape)],
            [helper.make_tensor_value_info(result, made, out)],
            self.weights,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        version = helper.find_min_ir_version_for(opsets, ignore_unknown=True)
        return helper.make_model(graph, opset_imports=opsets, ir_version=max(4, version))

    def squeeze(self, x: str, axes: list[int]) -> str:
        if self.opset < 13:
            return self.op("Squeeze", [x], axes=axes)
        return self.op("Squeeze", [x, self.constant(axes, np.int64)])

    def mean(self, x: str, axes: list[int], keepdims: int = 1) -> str:
        if self.opset < 18:
            return self.op("ReduceMean", [x], axes=axes, keepdims=keepdims)
        return self.op("ReduceMean", [x, self.constant(axes, np.int64)], keepdims=keepdims)

    def clip(self, x: str, low: float, high: float) -> str:
        if self.opset < 11:
            return self.op("Clip", [x], min=low, max=high)
        return self.op("Clip", [x, self.constant(low), self.constant(high)])

    def pad(self, x: str, pads: list[int], value: float = 0.0) -> str:
        if self.opset < 11:
            return self.op("Pad", [x], pads=pads, value=value)
        return self.op("Pad", [x, self.constant(pads, np.int64), self.constant(value)])
