"""The kernels of a compiled model, from the execution graph that OpenVINO gives.

Each node of that graph is one kernel. It names its layer type, its runtime precision and the layers
of the IR that were fused into it; what those computed, the IR itself tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from exporter.artifact import ElementType, Kernel, Operation

_DTYPES: Final[Mapping[str, ElementType]] = {
    "f64": ElementType.FP64,
    "f32": ElementType.FP32,
    "f16": ElementType.FP16,
    "bf16": ElementType.BF16,
    "u8": ElementType.INT8,
    "i8": ElementType.INT8,
    "i32": ElementType.INT32,
    "i64": ElementType.INT64,
    "boolean": ElementType.BOOL,
}

# Layer types of the CPU plugin's execution graph; what they compute, where the name says it all.
_LAYERS: Final[Mapping[str, Operation]] = {
    "Reorder": Operation.REORDER,
    "Reshape": Operation.REORDER,
    "Transpose": Operation.REORDER,
    "Convert": Operation.CAST,
    "FakeQuantize": Operation.QUANTIZE,
    "FullyConnected": Operation.GEMM,
    "MatMul": Operation.GEMM,
    "Softmax": Operation.SOFTMAX,
    "Reduce": Operation.AVGPOOL,
    "Math": Operation.POINTWISE,
}
# Operators of the IR; an Add of two computed tensors is a sum, one with a constant is a bias.
_OPERATORS: Final[Mapping[str, Operation]] = {
    "Relu": Operation.RELU,
    "MaxPool": Operation.MAXPOOL,
    "AvgPool": Operation.AVGPOOL,
    "ReduceMean": Operation.AVGPOOL,
    "BatchNormInference": Operation.BATCHNORM,
    "MatMul": Operation.GEMM,
}
_OWN_NAME: Final = re.compile(r"(Add|Relu)_\d+")
_IN_A_CONVOLUTION: Final = frozenset({Operation.ADD, Operation.RELU, Operation.BATCHNORM})


def kernels_of(executed: Any, model: Any) -> tuple[Kernel, ...]:
    """The kernels of an execution graph, in execution order; `model` is the IR it was made from."""
    operations = _operations_of(model)
    constants: set[str] = set()
    kernels = []
    for op in executed.get_ordered_ops():
        name = op.get_friendly_name()
        info = op.get_rt_info()
        layer = _text(info, "layerType")
        given = [value.get_node().get_friendly_name() for value in op.input_values()]
        computed = tuple(source for source in given if source not in constants)
        if layer == "Const" or (given and not computed):
            constants.add(name)
            continue
        if layer in {"Input", "Parameter", "Output", "Result"}:
            continue
        fused = _words(info, "originalLayersNames")
        kernels.append(
            Kernel(
                name=name,
                op=layer,
                does=_does(layer, fused, operations, branches=len(computed)),
                dtype=_DTYPES.get(_text(info, "runtimePrecision"), ElementType.UNKNOWN),
                inputs=computed,
                outputs=(name,),
                labels=fused,
                output_dtypes=tuple(
                    _DTYPES.get(word, ElementType.UNKNOWN)
                    for word in _words(info, "outputPrecisions")
                ),
            )
        )
    return tuple(kernels)


def _operations_of(model: Any) -> dict[str, Operation]:
    """Name of an IR operator -> what it computes, for those that matter to the receipt."""
    found: dict[str, Operation] = {}
    constants: set[str] = set()
    for op in model.get_ordered_ops():
        name, kind = op.get_friendly_name(), op.get_type_name()
        sources = [value.get_node().get_friendly_name() for value in op.input_values()]
        # With a dynamic batch, the shape that a bias is reshaped to is computed, its values not.
        values = sources[:1] if kind in {"Reshape", "Unsqueeze"} else sources
        if kind == "Constant" or (values and constants.issuperset(values)):
            constants.add(name)
        elif kind == "Add" and constants.isdisjoint(sources):
            found[name] = Operation.ADD
        elif kind in _OPERATORS:
            found[name] = _OPERATORS[kind]
    return found


def _does(
    layer: str, fused: tuple[str, ...], operations: Mapping[str, Operation], branches: int
) -> tuple[Operation, ...]:
    """What a layer computes that reads `branches` computed tensors."""
    found = [operations.get(name) or _renamed(name, branches) for name in fused]
    inside = tuple(dict.fromkeys(operation for operation in found if operation is not None))
    if layer == "Convolution":
        return (Operation.CONV, *(what for what in inside if what in _IN_A_CONVOLUTION))
    if layer == "Pooling":
        return inside or (Operation.OTHER,)
    if layer in {"Eltwise", "Subgraph"}:
        return inside or (Operation.POINTWISE,)
    return (_LAYERS.get(layer, Operation.OTHER),)


def _renamed(name: str, branches: int) -> Operation | None:
    """What an operator computes that the plugin put in the place of the IR's: `Add_3986`."""
    kind = _OWN_NAME.fullmatch(name)
    if kind is None or (kind[1] == "Add" and branches < 2):
        return None
    return Operation.RELU if kind[1] == "Relu" else Operation.ADD


def _text(info: Any, key: str) -> str:
    if key not in info:
        return ""
    value = info[key]
    return str(getattr(value, "value", value))


def _words(info: Any, key: str) -> tuple[str, ...]:
    return tuple(filter(None, _text(info, key).split(",")))
