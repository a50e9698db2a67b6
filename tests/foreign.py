"""A small ResNet as other tools write it: made with onnx.helper alone.

By default it has the traits of a TensorFlow export: NHWC input, opset 9, BatchNormalization already
folded, a max pool padded on one side, unnamed nodes, AveragePool, MatMul + Add, a Softmax.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.errors import InputError
from exporter.models.onnx_file import load_onnx

SIDE = 32
"""Height and width of the input; even, so that the last window of the pool is on the padding."""
CLASSES = 7


class Writer:
    """Collects nodes and seeded weights."""

    def __init__(self, *, named: bool, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.named = named
        self.rng = np.random.RandomState(seed)

    def weight(self, name: str, *shape: int, scale: float) -> str:
        array = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def constant(self, name: str, values: list[int]) -> str:
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def op(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = f"{output}/{op_type}" if self.named else ""
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))
        return output

    def conv(self, x: str, name: str, inputs: int, outputs: int, kernel: int, stride: int) -> str:
        scale = float(np.sqrt(2 / (inputs * kernel * kernel)))
        weight = self.weight(f"{name}_W", outputs, inputs, kernel, kernel, scale=scale)
        bias = self.weight(f"{name}_b", outputs, scale=0.1)
        return self.op(
            "Conv",
            [x, weight, bias],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )

    def bottleneck(self, x: str, name: str, inputs: int, outputs: int, stride: int) -> str:
        shortcut = x
        if inputs != outputs:
            shortcut = self.conv(x, f"{name}_proj", inputs, outputs, 1, stride)
        y = self.op("Relu", [self.conv(x, f"{name}_2a", inputs, 4, 1, stride)], f"{name}_a")
        y = self.op("Relu", [self.conv(y, f"{name}_2b", 4, 4, 3, 1)], f"{name}_b")
        y = self.conv(y, f"{name}_2c", 4, outputs, 1, 1)
        return self.op("Relu", [self.op("Add", [y, shortcut], f"{name}_sum")], f"{name}_out")


def resnet(
    *,
    opset: int = 9,
    ir_version: int = 4,
    batch: int | str = "unk__1",
    channels_last: bool = True,
    named: bool = False,
    head: str = "tensorflow",
    listed_weights: bool = False,
) -> onnx.ModelProto:
    """Four residual blocks, two of them with a projection; 15 convolutions.

    `head`: "tensorflow" (AveragePool, two Reshapes, MatMul + Add) or "pytorch" (GlobalAveragePool,
    Flatten, Gemm). `listed_weights` puts the weights among the inputs too, as before IR version 4.
    """
    writer = Writer(named=named)
    shape = [batch, SIDE, SIDE, 3] if channels_last else [batch, 3, SIDE, SIDE]
    x = "images:0"
    if channels_last:
        x = writer.op("Transpose", [x], "nchw", perm=[0, 3, 1, 2])
    x = writer.op("Relu", [writer.conv(x, "stem", 3, 8, 3, 1)], "stem_out")
    x = writer.op("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    x = writer.bottleneck(x, "s1b1", 8, 16, 1)
    x = writer.bottleneck(x, "s1b2", 16, 16, 1)
    x = writer.bottleneck(x, "s2b1", 16, 32, 2)
    x = writer.bottleneck(x, "s2b2", 32, 32, 1)
    if head == "tensorflow":
        x = writer.op("AveragePool", [x], "mean", kernel_shape=[8, 8], strides=[1, 1])
        x = writer.op("Reshape", [x, writer.constant("to_nhwc", [-1, 1, 1, 32])], "mean_nhwc")
        x = writer.op("Reshape", [x, writer.constant("to_rows", [-1, 32])], "rows")
        x = writer.op("MatMul", [x, writer.weight("fc_W", 32, CLASSES, scale=0.3)], "product")
        x = writer.op("Add", [x, writer.weight("fc_b", CLASSES, scale=0.1)], "logits")
    else:
        x = writer.op("GlobalAveragePool", [x], "mean")
        x = writer.op("Flatten", [x], "rows", axis=1)
        fc = [
            x,
            writer.weight("fc_W", CLASSES, 32, scale=0.3),
            writer.weight("fc_b", CLASSES, scale=0.1),
        ]
        x = writer.op("Gemm", fc, "logits", transB=1)
    writer.op("Softmax", [x], "probabilities", axis=1)
    inputs = [helper.make_tensor_value_info("images:0", TensorProto.FLOAT, shape)]
    if listed_weights:
        inputs += [
            helper.make_tensor_value_info(w.name, w.data_type, list(w.dims)) for w in writer.weights
        ]
    output = helper.make_tensor_value_info(
        "probabilities", TensorProto.FLOAT, ["unk__2" if isinstance(batch, str) else batch, CLASSES]
    )
    graph = helper.make_graph(writer.nodes, "tf2onnx", inputs, [output], writer.weights)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
        producer_name="somebody",
    )


def write(folder: Path, model: onnx.ModelProto, name: str = "net.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path, reason: str) -> None:
    """One line that begins with the file's name."""
    with pytest.raises(InputError, match=reason) as caught:
        load_onnx(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
