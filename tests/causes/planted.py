"""A small residual network in INT8, by our own lowering and by ONNX Runtime's quantizer, spoilt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from exporter.artifact import Dialect, Precision
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.passes.values import add_constant, constant, insert_behind, is_op
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from tests.graphs import Array
from tests.modules import model_of
from tests.samples import samples_of

SIZE: Final = 16
IMAGES: Final = np.random.RandomState(0).standard_normal((4, 3, SIZE, SIZE)).astype(np.float32)
CONV: Final = "layer2.conv1"
BLOCK: Final = "layer2"

Spoil = Callable[[ir.Model], None]


class Block(nn.Module):
    """A basic block without a projection."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, groups=groups)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.relu(self.conv2(self.relu(self.conv1(x))) + x)
        return summed


class Net(nn.Module):
    """Three blocks, whose weights differ from channel to channel tenfold."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1)
        self.relu = nn.ReLU()
        self.layer1 = Block(16, groups)
        self.layer2 = Block(16, groups)
        self.layer3 = Block(16, groups)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.relu(self.stem(x)))))
        answer: Tensor = self.fc(x.mean((2, 3)))
        return answer


def network(groups: int = 1) -> ir.Model:
    """The optimized float32 graph."""
    torch.manual_seed(0)
    model = model_of(Net(groups), size=SIZE, classes=4)
    assert model.module is not None
    for layer in model.module.modules():
        if isinstance(layer, nn.Conv2d):
            with torch.no_grad():
                scale = torch.logspace(-1, 0, layer.weight.shape[0])
                layer.weight *= scale[:, None, None, None]
    return optimize(export(model), model.module)[0]


def ours(graph: ir.Model, dialect: Dialect = Dialect.U8_ASYMMETRIC) -> ir.Model:
    """In INT8 as our lowering writes it."""
    ranges = calibrate(graph, samples_of(IMAGES), progress=Silent())
    return lower(graph, Lowering(Precision.INT8, dialect, ranges=ranges))[0]


def theirs(graph: ir.Model, folder: Path, **options: Any) -> ir.Model:
    """In INT8 as `quantize_static` writes it, with U8 activations and a scale a channel."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images = iter(IMAGES)

        def get_next(self) -> dict[str, Array] | None:
            image = next(self._images, None)
            return None if image is None else {"input": image[None]}

    good = {
        "quant_format": QuantFormat.QDQ,
        "activation_type": QuantType.QUInt8,
        "per_channel": True,
    }
    path, out = folder / "float.onnx", folder / "theirs.onnx"
    save(graph, path)
    logging.disable(logging.WARNING)  # it asks for a pre-processing that was done
    try:
        quantize_static(path, out, Reader(), **{**good, **options})
    finally:
        logging.disable(logging.NOTSET)
    return ir.from_proto(onnx.load(out))


def at_run_time(graph: ir.Model, folder: Path, *, per_channel: bool = False) -> ir.Model:
    """In INT8 as `quantize_dynamic` writes it, with U8 weights, which ONNX Runtime computes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path, out = folder / "float.onnx", folder / "theirs.onnx"
    save(graph, path)
    logging.disable(logging.WARNING)  # it asks for a pre-processing that was done
    try:
        quantize_dynamic(path, out, weight_type=QuantType.QUInt8, per_channel=per_channel)
    finally:
        logging.disable(logging.NOTSET)
    return ir.from_proto(onnx.load(out))


def node_named(graph: ir.Model, name: str) -> ir.Node:
    """The node of that name."""
    return next(node for node in graph.graph if node.name == name)


def pair_of(node: ir.Node, index: int) -> ir.Node:
    """The DequantizeLinear of an input."""
    value = node.inputs[index]
    assert value is not None
    pair = value.producer()
    assert pair is not None
    assert is_op(pair, "DequantizeLinear")
    return pair


def array(node: ir.Node, index: int) -> Array:
    """A constant that a node reads."""
    found = constant(node.inputs[index])
    assert found is not None
    return found


def set_array(graph: ir.Model, node: ir.Node, index: int, numbers: npt.ArrayLike) -> None:
    """Gives a node a constant of its own."""
    name = f"{node.name}.{index}.planted"
    node.replace_input_with(index, add_constant(graph.graph, name, np.asarray(numbers)))


def bypass(graph: ir.Model, node: ir.Node, index: int) -> None:
    """Takes the pair in front of one input away."""
    pair = pair_of(node, index)
    codes = constant(pair.inputs[0])
    if codes is not None:
        scale = array(pair, 1)
        shape = (-1, *[1] * (codes.ndim - 1)) if scale.size > 1 else ()
        set_array(graph, node, index, codes.astype(np.float32) * scale.reshape(shape))
        return
    before = pair.inputs[0]
    assert before is not None
    quantize = before.producer()
    assert quantize is not None
    node.replace_input_with(index, quantize.inputs[0])


def float_convolution(graph: ir.Model) -> None:
    """One convolution without pairs on input, weight and bias."""
    node = node_named(graph, CONV)
    for index in range(3):
        bypass(graph, node, index)


def bare_shortcut(graph: ir.Model) -> None:
    """One sum whose shortcut comes without a pair."""
    add = node_named(graph, f"{BLOCK}.add")
    behind_a_sum = [
        index
        for index in (0, 1)
        if not str(pair_of(add, index).outputs[0].name).startswith(f"{BLOCK}.")
    ]
    bypass(graph, add, behind_a_sum[0])


def wrong_bias_scale(graph: ir.Model) -> None:
    """A bias of which the scale is not the product of the others."""
    pair = pair_of(node_named(graph, CONV), 2)
    set_array(graph, pair, 1, array(pair, 1) * np.float32(1.5))


def one_weight_scale(graph: ir.Model) -> None:
    """Weights in one scale for all channels, biases to match."""
    for node in [node for node in graph.graph if is_op(node, "Conv")]:
        x, weight, bias = (pair_of(node, index) for index in range(3))
        numbers = array(weight, 0) * array(weight, 1).reshape(-1, 1, 1, 1)
        scale = np.float32(np.abs(numbers).max() / 127)
        set_array(graph, weight, 0, np.rint(numbers / scale).astype(np.int8))
        set_array(graph, weight, 1, scale.reshape(()))
        set_array(graph, weight, 2, np.zeros((), np.int8))
        of_bias = np.float32(array(x, 1).reshape(()) * scale)
        codes = np.rint(array(bias, 0) * array(bias, 1) / of_bias).astype(np.int32)
        set_array(graph, bias, 0, codes)
        set_array(graph, bias, 1, of_bias.reshape(()))
        set_array(graph, bias, 2, np.zeros((), np.int32))


def symmetric_activations(graph: ir.Model) -> None:
    """Activations in signed codes around zero; biases to match."""
    scales: dict[str, Array] = {}
    for node in [node for node in graph.graph if is_op(node, "QuantizeLinear")]:
        scale = (array(node, 1) * np.float32(2)).astype(np.float32)
        set_array(graph, node, 1, scale)
        set_array(graph, node, 2, np.zeros((), np.int8))
        node.outputs[0].type = ir.TensorType(ir.DataType.INT8)
        for pair in node.outputs[0].consumers():
            for value in (pair, *pair.outputs[0].consumers()):
                if is_op(value, "DequantizeLinear"):
                    set_array(graph, value, 1, scale)
                    set_array(graph, value, 2, np.zeros((), np.int8))
                    scales[str(value.outputs[0].name)] = scale
    for node in [node for node in graph.graph if is_op(node, "Conv", "Gemm")]:
        bias = pair_of(node, 2)
        set_array(graph, bias, 1, array(pair_of(node, 0), 1) * array(pair_of(node, 1), 1))


def batchnorm(graph: ir.Model) -> None:
    """A BatchNormalization behind one convolution."""
    conv = node_named(graph, CONV)
    names = ("scale", "shift", "mean", "var")
    numbers = [np.full(16, value, np.float32) for value in (1.1, 0.1, 0.0, 1.0)]
    constants = [
        add_constant(graph.graph, f"planted.{name}", one)
        for name, one in zip(names, numbers, strict=True)
    ]
    _insert(graph, conv, "BatchNormalization", constants, {}, ir.DataType.FLOAT)


def cast_pair(graph: ir.Model) -> None:
    """Two casts behind one convolution."""
    conv = node_named(graph, CONV)
    half = _insert(graph, conv, "Cast", [], {"to": int(ir.DataType.FLOAT16)}, ir.DataType.FLOAT16)
    _insert(graph, half, "Cast", [], {"to": int(ir.DataType.FLOAT)}, ir.DataType.FLOAT)


def _insert(
    graph: ir.Model,
    behind: ir.Node,
    op_type: str,
    constants: list[ir.Value],
    attributes: dict[str, int],
    dtype: ir.DataType,
) -> ir.Node:
    value = behind.outputs[0]
    node = ir.node(op_type, [value, *constants], attributes, name=f"{behind.name}.{op_type}")
    node.outputs[0].name = str(node.name)
    node.outputs[0].type = ir.TensorType(dtype)
    node.outputs[0].shape = value.shape
    for reader, index in tuple(value.uses()):
        if reader is not node:
            reader.replace_input_with(index, node.outputs[0])
    insert_behind(graph.graph, value, [node])
    return node
