"""What a TensorRT kernel computes, from its type, its name and the ONNX nodes that it lists.

    correlation, gemm, maxpool,  vendor kernels: the operation itself, and each listed Add or Relu
    avgpool
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

from exporter.artifact import Operation
from exporter.targets.target import UnreadableKernels

# ONNX operators of residual networks and of what people put before and behind them. One that is
# not here makes the list unreadable if a kernel names it: nobody checked how it is reported.
_NODES: Final[Mapping[Operation, tuple[str, ...]]] = {
    Operation.CONV: ("Conv",),
    Operation.ADD: ("Add",),
    Operation.RELU: ("Relu",),
    Operation.GEMM: ("Gemm", "MatMul"),
    Operation.MAXPOOL: ("MaxPool",),
    Operation.AVGPOOL: ("GlobalAveragePool", "AveragePool", "ReduceMean"),
    Operation.BATCHNORM: ("BatchNormalization",),
    Operation.SOFTMAX: ("Softmax", "LogSoftmax"),
    Operation.QUANTIZE: ("QuantizeLinear",),
    Operation.DEQUANTIZE: ("DequantizeLinear",),
    Operation.CAST: ("Cast",),
    Operation.REORDER: (
        "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Pad", "Slice",
        "Split",
    ),
    Operation.OTHER: ("Identity", "Constant", "Shape", "Gather", "ConstantOfShape", "Expand"),
    Operation.POINTWISE: (
        "Mul", "Sub", "Div", "Clip", "Sigmoid", "LeakyRelu", "PRelu", "Sqrt",
    ),
}  # fmt: skip
OPERATORS: Final[Mapping[str, Operation]] = {
    name: operation for operation, names in _NODES.items() for name in names
}

PRODUCTS: Final = frozenset({Operation.CONV, Operation.GEMM})
ONCE: Final = (Operation.CONV, Operation.GEMM, Operation.ADD, Operation.RELU)
"""Operations that each node of the graph must have exactly one kernel for."""

NO_KERNELS: Final = frozenset({"shape_call", "signal", "wait"})

# The step in a generated kernel's name that shows that it does the operation.
_EVIDENCE: Final[Mapping[Operation, frozenset[str]]] = {
    Operation.CONV: frozenset({"Corr", "Fc"}),
    Operation.GEMM: frozenset({"Fc", "Gemm"}),
    Operation.ADD: frozenset({"Add"}),
    Operation.RELU: frozenset({"Relu"}),
    Operation.AVGPOOL: frozenset({"Mean", "Pool", "Sum"}),
    Operation.MAXPOOL: frozenset({"Pool", "Max"}),
    Operation.QUANTIZE: frozenset({"Roun"}),
    Operation.DEQUANTIZE: frozenset({"Mul"}),
    Operation.CAST: frozenset({"Cast"}),
    Operation.SOFTMAX: frozenset({"Exp"}),
    Operation.REORDER: frozenset({"Tran", "Conc", "Repl", "Move", "Slic", "Resh", "Pad"}),
    Operation.POINTWISE: frozenset({"Mul", "Sub", "Div", "Max", "Min", "Sigm", "Sqrt", "Sele"}),
}
_MOVES: Final = _EVIDENCE[Operation.REORDER]
_PRODUCT_STEPS: Final = frozenset({"Corr", "Fc", "Gemm"})

# layer type of a vendor kernel -> the operations of which it does exactly one
_VENDOR: Final[Mapping[str, frozenset[Operation]]] = {
    "correlation": frozenset({Operation.CONV}),
    "gemm": PRODUCTS,
    "maxpool": frozenset({Operation.MAXPOOL}),
    "avgpool": frozenset({Operation.AVGPOOL}),
}
_GENERATED: Final = frozenset({"runtime_fusion", "kgen"})
_CAST_CORRELATION: Final = ["Corr", "Cast"]
"""A vendor's correlation, bias and Relu in it, whose result is cast: the stem in BF16, in front of
a max pooling in FP32."""
_STEPS: Final = re.compile(r"__myl_((?:[A-Z][a-z0-9]*)+)_myl\d+_\d+")

# The order in which the operations of a kernel are listed.
_ORDER: Final = (
    Operation.REORDER, Operation.DEQUANTIZE, Operation.CONV, Operation.GEMM, Operation.MAXPOOL,
    Operation.ADD, Operation.BATCHNORM, Operation.RELU, Operation.POINTWISE, Operation.AVGPOOL,
    Operation.SOFTMAX, Operation.QUANTIZE, Operation.CAST, Operation.OTHER,
)  # fmt: skip


def what_it_does(name: str, kind: str, operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations of one kernel.

    `operations` are those of the ONNX nodes that the kernel lists, one entry a node.

    Raises:
        UnreadableKernels: the type is unknown, or the name and the nodes contradict each other.
    """
    if kind in NO_KERNELS:
        return (Operation.OTHER,)
    if kind in _VENDOR:
        return _listed(name, kind, operations)
    if kind not in _GENERATED:
        raise UnreadableKernels(f"{name} is of the unknown type {kind!r}")
    spelled = _STEPS.fullmatch(name)
    if spelled is None:
        raise UnreadableKernels(f"{name}: a generated kernel whose name does not spell its steps")
    order = re.findall(r"[A-Z][a-z0-9]*", spelled[1])
    if order == _CAST_CORRELATION:
        return _listed(name, "correlation", operations)
    if (kind == "runtime_fusion") is _PRODUCT_STEPS.isdisjoint(order):
        raise UnreadableKernels(f"{name}: a {kind} kernel with or without a matrix product")
    return _spelled_out(name, order, operations)


def _listed(name: str, kind: str, operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """What a vendor kernel lists, which is what it does."""
    main = [operation for operation in operations if operation in _VENDOR[kind]]
    if len(main) != 1:
        raise UnreadableKernels(f"{name}: a {kind} kernel that lists {len(main)} of its kind")
    if max(operations.count(Operation.ADD), operations.count(Operation.RELU)) > 1:
        raise UnreadableKernels(f"{name}: a {kind} kernel that lists two sums or two Relus")
    # A Q beside a convolution is its weight's or its input's; the kernel's output type tells.
    return in_order([op for op in operations if op not in {Operation.QUANTIZE, Operation.OTHER}])


def _spelled_out(
    name: str, order: Sequence[str], operations: Sequence[Operation]
) -> tuple[Operation, ...]:
    steps = set(order)
    does = [op for op in operations if not _EVIDENCE.get(op, frozenset()).isdisjoint(steps)]
    if steps & _PRODUCT_STEPS and len(PRODUCTS & set(does)) != 1:
        raise UnreadableKernels(f"{name} multiplies matrices for no Conv or Gemm, or for both")
    for operation in ONCE:
        spelled = sum(step in _EVIDENCE[operation] for step in order)
        if does.count(operation) > spelled:
            raise UnreadableKernels(
                f"{name} lists {does.count(operation)} {operation} nodes and spells {spelled}"
            )
    if "Relu" in steps and Operation.RELU not in does:
        raise UnreadableKernels(f"{name} spells a Relu and lists none")
    explained: set[str] = {"Cast"}.union(_MOVES, *(_EVIDENCE[op] for op in does))
    if steps & _MOVES:
        does.append(Operation.REORDER)
    if Operation.QUANTIZE in does:
        explained |= {"Mul", "Min", "Max"}
    if steps & _PRODUCT_STEPS:
        explained.add("Add")  # the bias
    if steps - explained:
        does.append(Operation.POINTWISE)
    if Operation.ADD not in does or "Roun" not in steps:
        return in_order(does or [Operation.CAST if "Cast" in steps else Operation.OTHER])
    # What is rounded before the sum is one of its operands: listed first, so that it shows.
    # The last addition is the sum; those before it are biases.
    split = len(order) - list(reversed(order)).index("Add")
    operands = [Operation.QUANTIZE] * order[:split].count("Roun")
    rest = [op for op in does if op is not Operation.QUANTIZE or "Roun" in order[split:]]
    return (*operands, *in_order(rest))


def in_order(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """Operations in a fixed order; those of `ONCE` once a node, the others once."""
    known = list(operations)
    return tuple(
        operation
        for operation in _ORDER
        for _ in range(known.count(operation) if operation in ONCE else operation in known)
    )
