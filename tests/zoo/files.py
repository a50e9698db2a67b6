"""ONNX files as other tools write them: small residual networks, each with one trait.

The traits are those of files in PyTorch's, ONNX Runtime's, OpenVINO's and TensorRT's trackers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.zoo.onnx_file import CHANNELS, CLASSES, SIDE, File


def of_opset(opset: int) -> onnx.ModelProto:
    """What is spelt differently from one opset to the other."""
    f = File(opset)
    x = f.clip(f.conv(f.pad("data", [0, 0, 1, 1, 0, 0, 1, 1]), 3, bias=False), 0.0, 6.0)
    x = f.op("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = f.op("Dropout", [f.block(f.batchnorm(x))])
    x = f.dense(f.squeeze(f.mean(x, [2, 3]), [2, 3]))
    return f.model(f.op("Softmax", [x], axis=1))


def with_batch(batch: int | str) -> onnx.ModelProto:
    f = File()
    return f.model(f.dense(f.rows(f.trunk())), shape=(batch, 3, SIDE, SIDE), out=(batch, CLASSES))


def channels_last() -> onnx.ModelProto:
    f = File(11)
    x = f.block(f.stem(f.op("Transpose", ["data"], perm=[0, 3, 1, 2])))
    x = f.op("Transpose", [x], perm=[0, 2, 3, 1])
    x = f.mean(x, [1, 2], keepdims=0)
    return f.model(f.dense(x), shape=("N", SIDE, SIDE, 3))


def pixels(*, last: bool) -> onnx.ModelProto:
    """Takes 8-bit images."""
    f = File()
    x = f.op("Cast", ["data"], to=TensorProto.FLOAT)
    x = f.op("Transpose", [x], perm=[0, 3, 1, 2]) if last else x
    x = f.op("Div", [f.op("Sub", [x, f.constant(110.0)]), f.constant(60.0)])
    shape = ("N", SIDE, SIDE, 3) if last else ("N", 3, SIDE, SIDE)
    return f.model(f.dense(f.rows(f.block(f.stem(x)))), shape=shape, kind=TensorProto.UINT8)


def bias_added() -> onnx.ModelProto:
    """Biases as Adds of (C, 1, 1) and of (1, C, 1, 1)."""
    f = File()
    x = f.op("Add", [f.conv("data", 3, bias=False), f.normal(CHANNELS, 1, 1, scale=0.1)])
    y = f.op("Add", [f.normal(1, CHANNELS, 1, 1, scale=0.1), f.conv(f.relu(x), bias=False)])
    return f.head(f.relu(f.op("Add", [f.relu(x), y])))


def dense_of(bias: tuple[int, ...], *, matmul: bool = True) -> onnx.ModelProto:
    f = File()
    x = f.rows(f.trunk())
    weight, shift = f.normal(CHANNELS, CLASSES, scale=0.4), f.normal(*bias, scale=0.1)
    if not matmul:
        return f.model(f.op("Gemm", [x, weight, shift], alpha=0.5, beta=2.0))
    out = ("N", CLASSES) if len(bias) < 3 else (bias[0], "N", CLASSES)
    return f.model(f.op("Add", [f.op("MatMul", [x, weight]), shift]), out=out)


def column() -> onnx.ModelProto:
    """The classifier is a MatMul with a column for each image, as (N, K, C) x (N, C, 1)."""
    f = File()
    x = f.op("Reshape", [f.rows(f.trunk()), f.constant([-1, CHANNELS, 1], np.int64)])
    x = f.op("MatMul", [f.normal(CLASSES, CHANNELS, scale=0.4), x])
    x = f.op("Add", [x, f.normal(CLASSES, 1, scale=0.1)])
    return f.model(f.op("Reshape", [x, f.constant([-1, CLASSES], np.int64)]))


def infinite_padding() -> onnx.ModelProto:
    f = File()
    x = f.pad(f.stem(), [0, 0, 0, 0, 0, 0, 1, 1], float("-inf"))
    return f.head(f.block(f.op("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2])))


def activation(kind: str) -> Callable[[], onnx.ModelProto]:
    def made() -> onnx.ModelProto:
        f = File()
        x = f.conv("data", 3, strides=[2, 2])
        match kind:
            case "PRelu":
                x = f.op("PRelu", [x, f.uniform(0.1, 0.3, CHANNELS, 1, 1)])
            case "SiLU":
                x = f.op("Mul", [x, f.op("Sigmoid", [x])])
            case "hard-swish":
                gate = f.clip(f.op("Add", [x, f.constant(3.0)]), 0.0, 6.0)
                x = f.op("Div", [f.op("Mul", [x, gate]), f.constant(6.0)])
            case "mish":
                x = f.op("Mul", [x, f.op("Tanh", [f.op("Softplus", [x])])])
            case "gelu":
                erf = f.op("Erf", [f.op("Div", [x, f.constant(np.sqrt(2))])])
                half = f.op("Mul", [x, f.constant(0.5)])
                x = f.op("Mul", [half, f.op("Add", [erf, f.constant(1.0)])])
            case _:
                x = f.op(kind, [x])
        return f.head(f.block(x))

    return made


def grouped(groups: int) -> onnx.ModelProto:
    f = File()
    x = f.stem()
    y = f.conv(f.relu(f.conv(x, groups=groups)), groups=groups, dilations=[2, 2])
    y = f.op("Slice", [f.pad(y, [0, 0, 1, 1, 0, 0, 1, 1]), *_slice(f, SIDE // 2)])
    return f.head(f.relu(f.op("Add", [y, x])))


def _slice(f: File, size: int) -> list[str]:
    return [f.constant(v, np.int64) for v in ([0, 0], [size, size], [2, 3])]


def of_type(kind: int) -> onnx.ModelProto:
    """Everything in double or in half precision, the input and output as well."""
    model = with_batch("N")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(array.astype(dtype), tensor.name))
    return model


def inside_of_type(kind: int) -> onnx.ModelProto:
    """A double or half network between two Casts."""
    model = of_type(kind)
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["cast" if name == "data" else name for name in node.input]
    last = graph.output[0].name
    nodes = [
        helper.make_node("Cast", ["data"], ["cast"], to=kind),
        *graph.node,
        helper.make_node("Cast", [last], ["logits"], to=TensorProto.FLOAT),
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.output[0].name = "logits"
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def frozen() -> onnx.ModelProto:
    """BatchNormalizations as a Mul and an Add."""
    f = File()
    x = f.stem()
    y = f.op("Mul", [f.conv(x, bias=False), f.uniform(0.6, 1.2, 1, CHANNELS, 1, 1)])
    y = f.relu(f.op("Add", [y, f.normal(1, CHANNELS, 1, 1, scale=0.2)]))
    return f.head(f.relu(f.op("Add", [f.conv(y), x])))


def shared() -> onnx.ModelProto:
    """Two convolutions of one weight, each with a BatchNormalization of its own."""
    f = File()
    x = f.stem()
    weight = f.normal(CHANNELS, CHANNELS, 3, 3, scale=0.15)
    y = f.relu(f.batchnorm(f.op("Conv", [x, weight], pads=[1, 1, 1, 1])))
    y = f.batchnorm(f.op("Conv", [y, weight], pads=[1, 1, 1, 1]))
    return f.head(f.relu(f.op("Add", [x, y])))


def named(*names: str) -> onnx.ModelProto:
    """Its first nodes have these names, and the others the last one."""
    model = with_batch("N")
    for index, node in enumerate(model.graph.node):
        node.name = names[min(index, len(names) - 1)].format(index=index)
    return model


def with_function() -> onnx.ModelProto:
    model = with_batch("N")
    last = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Twice", [last], ["logits"], domain="mine"))
    model.graph.output[0].name = "logits"
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.opset_import.append(helper.make_opsetid("mine", 1))
    opsets = list(model.opset_import)
    model.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], body, opsets))
    return model


def control_flow(kind: str) -> onnx.ModelProto:
    f = File()
    x = f.dense(f.rows(f.trunk()))
    given = helper.make_tensor_value_info("s", TensorProto.FLOAT, None)
    if kind == "If":
        branch = helper.make_graph([helper.make_node("Neg", [x], ["s"])], "b", [], [given])
        condition = f.constant(True, np.bool_)
        return f.model(f.op("If", [condition], then_branch=branch, else_branch=branch))
    inputs = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
    ]
    outputs = [helper.make_tensor_value_info("d", TensorProto.BOOL, []), given]
    nodes = [
        helper.make_node("Identity", ["c"], ["d"]),
        helper.make_node("Add", ["v", "v"], ["s"]),
    ]
    body = helper.make_graph(nodes, "b", inputs, outputs)
    times = f.constant(2, np.int64)
    return f.model(f.op("Loop", [times, "", x], body=body))


def ending(kind: str, **attributes: Any) -> onnx.ModelProto:
    """Behind the logits something that makes other than float32 scores of them."""
    f = File()
    x = f.dense(f.rows(f.trunk()))
    made = {"ArgMax": TensorProto.INT64}.get(kind, attributes.get("to", TensorProto.FLOAT))
    out = ("N", 1) if kind == "ArgMax" else ("N", CLASSES)
    return f.model(f.op(kind, [x], **attributes), made=made, out=out)


def noisy() -> onnx.ModelProto:
    f = File()
    x = f.trunk()
    return f.head(f.op("Add", [x, f.op("RandomNormalLike", [x])]))


def silent_noise() -> onnx.ModelProto:
    """Noise times zero, which follows the type of what it is like."""
    f = File()
    x = f.trunk()
    noise = f.op("Mul", [f.op("RandomUniformLike", [x]), f.constant(0.0)])
    return f.head(f.op("Add", [x, noise]))


def training() -> onnx.ModelProto:
    f = File()
    x = f.batchnorm(f.stem())
    f.nodes[-1].attribute.append(helper.make_attribute("training_mode", 1))
    f.nodes[-1].output.extend(["mean", "var"])
    return f.head(x)


def unread() -> onnx.ModelProto:
    """Outputs, nodes and weights that nobody reads."""
    f = File(9)
    x = f.op("MaxPool", [f.stem()], "indices", kernel_shape=[2, 2], strides=[2, 2])
    x = f.op("Dropout", [f.block(x)], "mask", ratio=0.3)
    f.op("Sigmoid", [x])
    f.normal(5)
    return f.head(x)


def nothing_to_quantize() -> onnx.ModelProto:
    """Pools and products of what is computed: no weight is a constant."""
    f = File()
    x = f.op("MaxPool", ["data"], kernel_shape=[3, 3], strides=[3, 3])
    x = f.op("Tanh", [f.op("Flatten", [x])])
    return f.model(x, out=("N", 3 * 64))


def listed_weights() -> onnx.ModelProto:
    """Weights among the inputs, as before version 4 of the format."""
    model = with_batch("N")
    model.graph.input.extend(
        helper.make_tensor_value_info(w.name, w.data_type, list(w.dims))
        for w in model.graph.initializer
    )
    model.ir_version = 3
    return model


def constant_nodes() -> onnx.ModelProto:
    """Weights in Constant nodes, the last one transposed by a node."""
    model = with_batch("N")
    weights = [helper.make_node("Constant", [], [w.name], value=w) for w in model.graph.initializer]
    nodes = [*weights, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def summed() -> onnx.ModelProto:
    """Caffe2's sum, and one of three."""
    f = File(9)
    x = f.stem()
    y = f.relu(f.op("Sum", [f.conv(x), x]))
    return f.head(f.op("Sum", [f.conv(y), y, x]))


def group_norm() -> onnx.ModelProto:
    """GroupNormalization-21, which has no way down."""
    f = File(21)
    scale, shift = f.uniform(0.6, 1.2, CHANNELS), f.normal(CHANNELS, scale=0.1)
    x = f.op("GroupNormalization", [f.conv("data", 3), scale, shift], num_groups=4)
    return f.head(f.block(f.relu(x)))


def channel_shuffle() -> onnx.ModelProto:
    """Of pooled features, before the head."""
    f = File()
    x = f.op("GlobalAveragePool", [f.trunk()])
    x = f.op("Reshape", [x, f.constant([-1, 2, CHANNELS // 2, 1], np.int64)])
    x = f.op("Transpose", [x], perm=[0, 2, 1, 3])
    return f.model(f.dense(f.op("Reshape", [x, f.constant([-1, CHANNELS], np.int64)])))


def not_finite() -> onnx.ModelProto:
    model = with_batch("N")
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[0, 0, 0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w0"))
    return model


def quantized() -> onnx.ModelProto:
    f = File()
    scale, zero = f.constant(0.05), f.constant(128, np.uint8)
    codes = f.op("QuantizeLinear", ["data", scale, zero])
    return f.head(f.block(f.stem(f.op("DequantizeLinear", [codes, scale, zero]))))


def others_operator() -> onnx.ModelProto:
    model = with_batch("N")
    model.graph.node[1].domain, model.graph.node[1].op_type = "com.microsoft", "QuickGelu"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model
