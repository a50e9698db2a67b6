"""What a TensorRT kernel computes, from its type, its name and the ONNX nodes that it lists.

    correlation, gemm, maxpool   vendor kernels: the operation itself, and each listed Add or Relu
    runtime_fusion, kgen         generated kernels whose name spells their steps
                                 (`__myl_CastMulMulAddReluMulMinMaxRounCast`): a listed node counts
                                 only with its step, since the list also holds nodes for which a
                                 kernel merely prepares an input
    shape_call, signal, wait     shapes on the host, synchronisation of streams: no kernels

Measured on TensorRT-RTX 1.7 with ResNets of every variant. What was not seen there is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from exporter.targets import UnreadableKernels

# ONNX operators of residual networks and of what people put before and behind them. One that is
# not here makes the list unreadable if a kernel names it: nobody checked how it is reported.
OPERATORS: Final[Mapping[str, str]] = {
    "Conv": "conv", "Add": "add", "Relu": "relu", "Gemm": "gemm", "MatMul": "gemm",
    "MaxPool": "maxpool", "GlobalAveragePool": "avgpool", "AveragePool": "avgpool",
    "ReduceMean": "avgpool", "BatchNormalization": "batchnorm", "Softmax": "softmax",
    "LogSoftmax": "softmax", "QuantizeLinear": "quantize", "DequantizeLinear": "dequantize",
    "Cast": "cast", "Transpose": "reorder", "Reshape": "reorder", "Flatten": "reorder",
    "Squeeze": "reorder", "Unsqueeze": "reorder", "Concat": "reorder", "Pad": "reorder",
    "Slice": "reorder", "Split": "reorder", "Identity": "other", "Constant": "other",
    "Shape": "other", "Gather": "other", "ConstantOfShape": "other", "Expand": "other",
    "Mul": "pointwise", "Sub": "pointwise", "Div": "pointwise", "Clip": "pointwise",
    "Sigmoid": "pointwise", "LeakyRelu": "pointwise", "PRelu": "pointwise", "Sqrt": "pointwise",
}  # fmt: skip

ONCE: Final = ("conv", "gemm", "add", "relu")
"""Operations that each node of the graph must have exactly one kernel for."""

NO_KERNELS: Final = frozenset({"shape_call", "signal", "wait"})

# The step in a generated kernel's name that shows that it does the operation.
_EVIDENCE: Final[Mapping[str, frozenset[str]]] = {
    "conv": frozenset({"Corr", "Fc"}),
    "gemm": frozenset({"Fc", "Gemm"}),
    "add": frozenset({"Add"}),
    "relu": frozenset({"Relu"}),
    "avgpool": frozenset({"Mean", "Pool", "Sum"}),
    "maxpool": frozenset({"Pool", "Max"}),
    "quantize": frozenset({"Roun"}),
    "dequantize": frozenset({"Mul"}),
    "cast": frozenset({"Cast"}),
    "softmax": frozenset({"Exp"}),
    "reorder": frozenset({"Tran", "Conc", "Repl", "Move", "Slic", "Resh", "Pad"}),
    "pointwise": frozenset({"Mul", "Sub", "Div", "Max", "Min", "Sigm", "Sqrt", "Sele"}),
}
_MOVES: Final = _EVIDENCE["reorder"]
_PRODUCTS: Final = frozenset({"Corr", "Fc", "Gemm"})

# layer type of a vendor kernel -> the operations of which it does exactly one
_VENDOR: Final[Mapping[str, frozenset[str]]] = {
    "correlation": frozenset({"conv"}),
    "gemm": frozenset({"conv", "gemm"}),
    "maxpool": frozenset({"maxpool"}),
}
_GENERATED: Final = frozenset({"runtime_fusion", "kgen"})
_STEPS: Final = re.compile(r"__myl_((?:[A-Z][a-z0-9]*)+)_myl\d+_\d+")

# The order in which the operations of a kernel are told.
_ORDER: Final = (
    "reorder", "dequantize", "conv", "gemm", "maxpool", "add", "batchnorm", "relu", "pointwise",
    "avgpool", "softmax", "quantize", "cast", "other",
)  # fmt: skip


def what_it_does(name: str, kind: str, operations: Sequence[str]) -> tuple[str, ...]:
    """The operations of one kernel, of `artifact.OPERATIONS`.

    `operations` are those of the ONNX nodes that the kernel lists, one entry a node.

    Raises:
        UnreadableKernels: the type is unknown, or the name and the nodes contradict each other.
    """
    if kind in NO_KERNELS:
        return ("other",)
    if kind in _VENDOR:
        main = [operation for operation in operations if operation in _VENDOR[kind]]
        if len(main) != 1:
            raise UnreadableKernels(f"{name}: a {kind} kernel that lists {len(main)} of its kind")
        if max(operations.count("add"), operations.count("relu")) > 1:
            raise UnreadableKernels(f"{name}: a {kind} kernel that lists two sums or two Relus")
        # A Q beside a convolution is its weight's or its input's; the kernel's output type tells.
        return told([op for op in operations if op not in {"quantize", "other"}])
    if kind not in _GENERATED:
        raise UnreadableKernels(f"{name} is of the unknown type {kind!r}")
    spelled = _STEPS.fullmatch(name)
    if spelled is None:
        raise UnreadableKernels(f"{name}: a generated kernel whose name does not spell its steps")
    order = re.findall(r"[A-Z][a-z0-9]*", spelled[1])
    if (kind == "runtime_fusion") is _PRODUCTS.isdisjoint(order):
        raise UnreadableKernels(f"{name}: a {kind} kernel with or without a matrix product")
    return _spelled_out(name, order, operations)


def _spelled_out(name: str, order: Sequence[str], operations: Sequence[str]) -> tuple[str, ...]:
    steps = set(order)
    does = [op for op in operations if not _EVIDENCE.get(op, frozenset()).isdisjoint(steps)]
    if steps & _PRODUCTS and len({"conv", "gemm"} & set(does)) != 1:
        raise UnreadableKernels(f"{name} multiplies matrices for no Conv or Gemm, or for both")
    for operation in ONCE:
        spelled = sum(step in _EVIDENCE[operation] for step in order)
        if does.count(operation) > spelled:
            raise UnreadableKernels(
                f"{name} lists {does.count(operation)} {operation} nodes and spells {spelled}"
            )
    if "Relu" in steps and "relu" not in does:
        raise UnreadableKernels(f"{name} spells a Relu and lists none")
    explained: set[str] = {"Cast"}.union(_MOVES, *(_EVIDENCE[op] for op in does))
    if steps & _MOVES:
        does.append("reorder")
    if "quantize" in does:
        explained |= {"Mul", "Min", "Max"}
    if steps & _PRODUCTS:
        explained.add("Add")  # the bias
    if steps - explained:
        does.append("pointwise")
    if "add" not in does or "Roun" not in steps:
        return told(does or ["cast" if "Cast" in steps else "other"])
    # What is rounded before the sum is one of its operands: told first, so that it shows.
    # The last addition is the sum; those before it are biases.
    split = len(order) - list(reversed(order)).index("Add")
    operands = ["quantize"] * order[:split].count("Roun")
    rest = [op for op in does if op != "quantize" or "Roun" in order[split:]]
    return (*operands, *told(rest))


def told(operations: Iterable[str]) -> tuple[str, ...]:
    """Operations in a fixed order; those of `ONCE` once a node, the others once."""
    known = list(operations)
    return tuple(
        operation
        for operation in _ORDER
        for _ in range(known.count(operation) if operation in ONCE else operation in known)
    )
