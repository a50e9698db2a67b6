"""A small residual network for ONNX Runtime, written node by node, and what its receipt says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.artifact import Precision
from exporter.passes.blocks import GraphFacts
from exporter.prove.certificate import Receipt
from exporter.prove.receipt import make_receipt
from exporter.targets import Array
from exporter.targets.ort.cpu import OrtCpu
from tests.prove.kernel_lists import facts as facts_of

CONVS = 6  # stem, two in each block, one projection
BLOCKS = ("layer1.0", "layer2.0")


@dataclass
class Network:
    """A stem, an identity block, a projection block and a head, written node by node.

    `fused`: residual sums and activations as FusedConv. `int8`: Q/DQ around everything in the
    u8-asymmetric dialect, apart from the convolutions in `keep`. `half`: all in FP16.
    """

    fused: bool = False
    int8: bool = False
    half: bool = False
    keep: tuple[str, ...] = ()
    also_outputs: tuple[str, ...] = ()
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    scales: dict[str, float] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def model(self) -> onnx.ModelProto:
        x = self.quantized("x", 128)
        if self.half:
            x = self.node("Cast", [x], "x16", to=TensorProto.FLOAT16)
        x = self.conv("conv1", x, 3, 16, relu="relu")
        x = self.block("layer1.0", x, 16, 16)
        x = self.block("layer2.0", x, 16, 32)
        x = self.quantized(self.node("GlobalAveragePool", [x], "avgpool"), 0)
        x = self.quantized(self.node("Flatten", [x], "flatten"), 0)
        weight = self.constant("fc.weight", self.rng.standard_normal((10, 32)) * 0.1)
        x = self.node("Gemm", [x, weight], "fc" if self.half else "y", transB=1)
        if self.half:
            self.node("Cast", [x], "y", to=TensorProto.FLOAT)
        kind = TensorProto.FLOAT
        outputs = [helper.make_tensor_value_info("y", kind, ["N", 10])]
        outputs += [helper.make_tensor_value_info(t, kind, None) for t in self.also_outputs]
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", kind, ["N", 3, 16, 16])],
            outputs,
            self.initializers,
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def save(self, path: Path) -> Path:
        onnx.save(self.model(), path)
        return path

    def block(self, name: str, x: str, planes_in: int, planes: int) -> str:
        stride = planes // planes_in
        shortcut = x
        if stride != 1:
            shortcut = self.conv(f"{name}.downsample.0", x, planes_in, planes, stride, kernel=1)
        y = self.conv(f"{name}.conv1", x, planes_in, planes, stride, relu=f"{name}.relu")
        if self.fused:
            return self.conv(f"{name}.conv2", y, planes, planes, relu=f"{name}.relu_1", z=shortcut)
        y = self.conv(f"{name}.conv2", y, planes, planes)
        y = self.node("Add", [y, shortcut], f"{name}.add")
        return self.quantized(self.node("Relu", [y], f"{name}.relu_1"), 0)

    def conv(
        self,
        name: str,
        x: str,
        planes_in: int,
        planes: int,
        stride: int = 1,
        *,
        kernel: int = 3,
        relu: str = "",
        z: str = "",
    ) -> str:
        shape = (planes, planes_in, kernel, kernel)
        weight = self.rng.standard_normal(shape) * np.sqrt(1 / (planes_in * kernel**2))
        bias = self.rng.standard_normal(planes) * 0.1
        if self.int8 and name not in self.keep:
            inputs = [x, *self.quantized_weights(name, weight, bias, self.scales[x])]
        else:
            inputs = [
                x,
                self.constant(f"{name}.weight", weight),
                self.constant(f"{name}.bias", bias),
            ]
        place: dict[str, Any] = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [kernel // 2] * 4,
        }
        if self.fused and relu:
            inputs += [z] if z else []
            fused = {"domain": "com.microsoft", "activation": "Relu", **place}
            return self.node("FusedConv", inputs, relu, name=name, **fused)
        y = self.node("Conv", inputs, name, **place)
        if relu:
            y = self.node("Relu", [y], relu)
        return self.quantized(y, 0 if relu else 128)

    def quantized(self, tensor: str, zero_point: int) -> str:
        """A Q/DQ pair on a tensor; does nothing in a float network."""
        if not self.int8:
            return tensor
        scale = self.constant(f"{tensor}_scale", np.float32(0.02))
        point = self.constant(f"{tensor}_zero_point", np.uint8(zero_point))
        codes = self.node("QuantizeLinear", [tensor, scale, point], f"{tensor}_q")
        back = self.node("DequantizeLinear", [codes, scale, point], f"{tensor}_dq")
        self.scales[back] = float(np.float32(0.02))
        return back

    def quantized_weights(self, name: str, weight: Array, bias: Array, scale: float) -> list[str]:
        scales = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
        codes = np.round(weight / scales[:, None, None, None]).astype(np.int8)
        bias_scales = np.float32(scale) * scales
        zeros = np.zeros(len(bias))
        triples = {
            "weight": (codes, scales, zeros.astype(np.int8)),
            "bias": (np.round(bias / bias_scales).astype(np.int32), bias_scales, None),
        }
        made = []
        for what, (values, by, zero_points) in triples.items():
            inputs = [
                self.constant(f"{name}.{what}", values),
                self.constant(f"{name}.{what}_scale", by),
            ]
            if zero_points is not None:
                inputs.append(self.constant(f"{name}.{what}_zero_point", zero_points))
            made.append(self.node("DequantizeLinear", inputs, f"{name}.{what}_dq", axis=0))
        return made

    def node(self, op: str, inputs: list[str], output: str, *, name: str = "", **kw: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=name or output, **kw))
        return output

    def constant(self, name: str, values: object) -> str:
        array = np.asarray(values)
        if array.dtype == np.float64:
            array = array.astype(np.float16 if self.half else np.float32)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name


def facts() -> GraphFacts:
    return facts_of(*BLOCKS, convs=CONVS)


def receipt(engine: Path, precision: Precision, kept: tuple[str, ...] = ()) -> Receipt:
    target = OrtCpu()
    kernels, source = target.kernels(engine)
    return make_receipt(
        kernels,
        source,
        graph_facts=facts(),
        precision=precision,
        dialect=target.dialect(precision),
        expected=target.expected(precision),
        kept=kept,
    )


def images(count: int = 2) -> Array:
    return np.random.default_rng(1).standard_normal((count, 3, 16, 16)).astype(np.float32)
