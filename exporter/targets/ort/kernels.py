"""The kernels of an ONNX Runtime session, from the optimized model that the session writes.

Each node of that model is one kernel. ONNX Runtime renames nodes (`relu_nchwc`,
`InsertedPrecisionFreeCast_relu`) and gives reordered weights and NCHWc tensors names of its own,
but a convolution's bias keeps its name and a node's new name contains the old one: both become
labels, with the runtime's own prefixes and suffixes taken off.

Types are not written out for every tensor, so they are carried along the graph from its inputs
and initializers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import onnx
from onnx import TensorProto, numpy_helper

from exporter.artifact import ElementType, Kernel, Operation

_TYPES: Final[Mapping[int, ElementType]] = {
    TensorProto.FLOAT: ElementType.FP32,
    TensorProto.DOUBLE: ElementType.FP64,
    TensorProto.FLOAT16: ElementType.FP16,
    TensorProto.BFLOAT16: ElementType.BF16,
    TensorProto.INT8: ElementType.INT8,
    TensorProto.UINT8: ElementType.UINT8,
    TensorProto.INT32: ElementType.INT32,
    TensorProto.INT64: ElementType.INT64,
    TensorProto.BOOL: ElementType.BOOL,
}
_EIGHT_BITS: Final = frozenset({ElementType.INT8, ElementType.UINT8})

_OPERATORS: Final[Mapping[Operation, tuple[str, ...]]] = {
    Operation.CONV: (
        "Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "QLinearConv",
    ),
    Operation.ADD: ("Add", "Sum", "QLinearAdd"),
    Operation.RELU: ("Relu",),
    Operation.BATCHNORM: ("BatchNormalization",),
    Operation.MAXPOOL: ("MaxPool", "NhwcMaxPool", "GlobalMaxPool"),
    Operation.AVGPOOL: (
        "AveragePool", "GlobalAveragePool", "ReduceMean", "QLinearAveragePool",
        "QLinearGlobalAveragePool", "QLinearReduceMean",
    ),
    Operation.GEMM: (
        "Gemm", "MatMul", "FusedGemm", "FusedMatMul", "QGemm", "QLinearMatMul", "MatMulInteger",
        "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
    ),
    Operation.SOFTMAX: ("Softmax", "LogSoftmax", "QLinearSoftmax"),
    Operation.QUANTIZE: ("QuantizeLinear", "DynamicQuantizeLinear"),
    Operation.DEQUANTIZE: ("DequantizeLinear",),
    Operation.CAST: ("Cast",),
    Operation.REORDER: ("ReorderInput", "ReorderOutput", "Transpose"),
    Operation.POINTWISE: (
        "Clip", "Mul", "Sub", "Div", "Max", "Min", "Pow", "Sqrt", "Sigmoid", "HardSigmoid",
        "HardSwish", "QuickGelu", "Gelu", "Tanh", "Elu", "LeakyRelu", "PRelu", "Erf", "Exp", "Neg",
        "Abs", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "FusedActivation", "BiasAdd",
        "SkipLayerNormalization", "Pad",
    ),
}  # fmt: skip
_DOES: Final[Mapping[str, Operation]] = {
    name: operation for operation, names in _OPERATORS.items() for name in names
}

# What QLinear operators read, by position: activations, weight or bias, and the zero point that
# bounds the output from below. Scales and zero points of inputs belong to the kernels before.
_ACTIVATIONS: Final[Mapping[str, tuple[int, ...]]] = {"QLinearAdd": (0, 3), "QLinearMul": (0, 3)}
_WEIGHTS: Final[Mapping[str, tuple[int, ...]]] = {
    "QLinearConv": (3, 8),
    "QGemm": (3, 6),
    "QLinearMatMul": (3,),
}
_OUTPUT_ZERO_POINT: Final[Mapping[str, int]] = {
    "QLinearConv": 7,
    "QLinearAdd": 7,
    "QGemm": 8,
    "QLinearMatMul": 7,
}

_MARKS: Final = re.compile(
    r"^(?:InsertedPrecisionFreeCast_|FusedBack_)+"
    r"|(?:_nchwc|_nhwc|_s8_2_u8|_token_\d+|/duplicated)+$"
)
_LONE_BATCHNORM: Final = re.compile(r"_bn$")
"""What ONNX Runtime adds to the name of a BatchNormalization that has no convolution before it and
that it turns into a depthwise convolution, whose weights it calls `bn_scale`."""
_REORDERED: Final = re.compile(r"reorder(_token_\d+)?$|Reorder(Input|Output)|Transpose")
"""Names that ONNX Runtime makes up; they tie nothing to the graph."""


def kernels_of(model: onnx.ModelProto) -> tuple[Kernel, ...]:
    """The kernels of an optimized model, in execution order."""
    graph = model.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    types = {name: tensor.data_type for name, tensor in initializers.items()}
    for value in (*graph.input, *graph.output, *graph.value_info):
        types.setdefault(value.name, value.type.tensor_type.elem_type)
    kernels = []
    for node in graph.node:
        for output in node.output:
            types[output] = _output_type(node, types)
        kernels.append(_kernel(node, initializers, types))
    return tuple(kernels)


def _kernel(
    node: onnx.NodeProto, initializers: Mapping[str, TensorProto], types: Mapping[str, int]
) -> Kernel:
    quantized = node.op_type in _OUTPUT_ZERO_POINT or node.op_type.startswith("QLinear")
    read = _activations(node)
    positions = _WEIGHTS.get(node.op_type, () if quantized else range(1, len(node.input)))
    weights = [node.input[i] for i in positions if i < len(node.input)]
    if _DOES.get(node.op_type) in {Operation.QUANTIZE, Operation.DEQUANTIZE}:
        weights = []
    inputs = [name for name in read if name and name not in initializers]
    names = [node.name, *node.output, *(name for name in weights if name in initializers)]
    labels = dict.fromkeys(_MARKS.sub("", name) for name in names if not _REORDERED.match(name))
    if _is_lone_batchnorm(node):
        labels = dict.fromkeys(_LONE_BATCHNORM.sub("", label) for label in labels)
    layout = node.domain.rpartition(".")[2]
    return Kernel(
        name=node.name or node.output[0],
        op=f"{node.op_type} ({layout})" if layout in {"nchwc", "nhwc"} else node.op_type,
        does=_does(node, initializers),
        dtype=ElementType.INT8 if quantized else _compute_type(node, types),
        inputs=tuple(dict.fromkeys(inputs)),
        outputs=tuple(name for name in node.output if name),
        labels=tuple(label for label in labels if label),
        output_dtypes=tuple(_element_type(types.get(name, 0)) for name in node.output if name),
    )


def _does(node: onnx.NodeProto, initializers: Mapping[str, TensorProto]) -> tuple[Operation, ...]:
    first = _DOES.get(node.op_type, Operation.OTHER)
    if first is Operation.ADD and any(name in initializers for name in _activations(node)):
        # A constant is added: a bias or a normalisation, not a sum of two branches.
        return (Operation.POINTWISE,)
    does = [Operation.BATCHNORM if _is_lone_batchnorm(node) else first]
    if first is Operation.CONV and not node.op_type.startswith("QLinear") and _given(node, 3):
        does.append(Operation.ADD)
    activation = next((a.s.decode() for a in node.attribute if a.name == "activation"), "")
    if activation:
        does.append(Operation.RELU if activation == "Relu" else Operation.POINTWISE)
    if _clamps_at_zero(node, initializers):
        does.append(Operation.RELU)
    return tuple(does)


def _is_lone_batchnorm(node: onnx.NodeProto) -> bool:
    named = _LONE_BATCHNORM.search(_MARKS.sub("", node.name)) is not None
    return named and _given(node, 1) and node.input[1].startswith("bn_scale")


def _activations(node: onnx.NodeProto) -> list[str]:
    """The tensors that flow through a kernel; scales and zero points do not."""
    if node.op_type in _ACTIVATIONS:
        return [node.input[i] for i in _ACTIVATIONS[node.op_type]]
    if node.op_type == "QLinearConcat":
        return list(node.input[2::3])
    first_only = node.op_type in {*_OUTPUT_ZERO_POINT, "QuantizeLinear", "DequantizeLinear"}
    if first_only or node.op_type.startswith("QLinear"):
        return [node.input[0]]
    return list(node.input)


def _clamps_at_zero(node: onnx.NodeProto, initializers: Mapping[str, TensorProto]) -> bool:
    """Whether requantization is a Relu: zero is the smallest value that the output can hold."""
    position = _OUTPUT_ZERO_POINT.get(node.op_type)
    if position is None or not _given(node, position):
        return False
    zero_point = initializers.get(node.input[position])
    if zero_point is None or zero_point.data_type not in (TensorProto.UINT8, TensorProto.INT8):
        return False
    value = int(numpy_helper.to_array(zero_point).reshape(-1)[0])
    return value == (0 if zero_point.data_type == TensorProto.UINT8 else -128)


def _compute_type(node: onnx.NodeProto, types: Mapping[str, int]) -> ElementType:
    """What the kernel computes in: the weight's type, else the first input's."""
    if node.op_type == "DequantizeLinear":
        return _element_type(types.get(node.input[1], 0))
    weighted = _DOES.get(node.op_type) in {Operation.CONV, Operation.GEMM} and _given(node, 1)
    name = node.input[1] if weighted else node.input[0] if node.input else node.output[0]
    kind = _element_type(types.get(name, 0))
    return ElementType.INT8 if kind in _EIGHT_BITS else kind


def _output_type(node: onnx.NodeProto, types: Mapping[str, int]) -> int:
    if node.op_type in {"Cast", "Constant", "Shape", "Size"}:
        to = next((a.i for a in node.attribute if a.name == "to"), TensorProto.INT64)
        return int(to)
    if node.op_type == "QuantizeLinear":
        return types.get(node.input[2], TensorProto.UINT8) if _given(node, 2) else TensorProto.UINT8
    if node.op_type == "DequantizeLinear":
        return types.get(node.input[1], 0)
    position = _OUTPUT_ZERO_POINT.get(node.op_type)
    if position is not None and node.op_type == "QGemm" and not _given(node, position):
        # QGemm without an output zero point leaves its result in float.
        return TensorProto.FLOAT
    if node.op_type in {"ConvInteger", "MatMulInteger"}:
        return TensorProto.INT32
    first = 2 if node.op_type == "QLinearConcat" else 0
    return types.get(node.input[first], 0) if node.input else 0


def _given(node: Any, position: int) -> bool:
    return len(node.input) > position and bool(node.input[position])


def _element_type(kind: int) -> ElementType:
    return _TYPES.get(kind, ElementType.UNKNOWN)
