"""TensorRT's engine inspector: the kernels of an engine that was built and loaded on a GPU.

`IEngineInspector.get_engine_information(JSON)` with ProfilingVerbosity.DETAILED gives
`{"Layers": [{"Name", "LayerType", "Inputs", "Outputs", ...}], ...}`, where "Metadata" lists a
layer's ONNX nodes: "[ONNX Layer: a]<RS>[ONNX Layer: b]". TensorRT 8 had them in the Name ("Conv_5 +
Add_6 + Relu_7"); how 10 and 11 differ is in `versions.py`.

What a layer does comes from its LayerType and from the ONNX nodes that it lists; in TensorRT's
vocabulary a Gemm may run as a CaskConvolution, so the node's operator decides between the two.
NoOp layers only rename a tensor, Constant layers hold weights: neither is a kernel. A layer of a
type that is not known here (one of Myelin's opaque ForeignNodes, for example) that lists a
convolution or a sum makes the engine unreadable.

An engine has the kernels of each of its optimization profiles. The names of the first one's are
plain, those of the others end in "[profile 1]" and so on (as NVIDIA's trt-engine-explorer reads
them).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exporter.artifact import ElementType, Operation
from exporter.targets.target import UnreadableKernels
from exporter.targets.tensorrt.operations import OPERATORS, PRODUCTS, in_order, what_it_does
from exporter.targets.tensorrt.records import (
    DTYPES,
    LayerList,
    LayerRecord,
    LayerTensor,
    check_complete,
)
from exporter.targets.tensorrt.versions import io_tensors, tensor_type

_METADATA: Final = re.compile(r"\[ONNX Layer: ([^\x1e\x1f\[\]]+)\]")

# Layer types of TensorRT's own back end; those of its compiler back end are TensorRT-RTX's.
_CONVOLUTIONS: Final = frozenset({
    "CaskConvolution", "CaskGemmConvolution", "CaskFlattenConvolution", "CudaConvolution",
    "FusedConvActConvolution", "CudaDepthwiseConvolution", "CaskDepthwiseConvolution",
    "DepthwiseConvolution", "GroupedConvolution", "Convolution", "ConvActPool", "CaskConvActPool",
    "CaskGemmMatrixMultiply", "CublasConvolution", "FullyConnected", "CaskFullyConnected",
    "MatrixMultiply", "CaskMatrixMultiply", "CublasMatrixMultiply",
})  # fmt: skip
_WITH_POOL: Final = frozenset({"ConvActPool", "CaskConvActPool"})
_COMPILED: Final = frozenset({"kgen", "correlation", "gemm", "runtime_fusion", "maxpool"})
_POINTWISE: Final = frozenset({
    "PointWise", "PointWiseV2", "CudaPointWise", "ElementWise", "Activation", "Scale", "Unary",
})  # fmt: skip
_POOLS: Final = frozenset({
    "Pooling", "CaskPooling", "CudaPooling", "TiledPooling", "PoolingTiled", "Reduce",
    "CudaReduce", "CaskReduce",
})  # fmt: skip
_MOVES: Final = frozenset({"Reformat", "Shuffle", "Slice", "Concatenation", "Padding", "Identity"})
_SOFTMAX: Final = frozenset({"SoftMax", "CudaSoftMax", "CaskSoftMaxV2", "Softmax"})
_CASTS: Final[Mapping[str, Operation]] = {
    "Quantize": Operation.QUANTIZE,
    "Dequantize": Operation.DEQUANTIZE,
    "Cast": Operation.CAST,
}
_QDQ: Final = frozenset({Operation.QUANTIZE, Operation.DEQUANTIZE})
_RENAMES: Final = "NoOp"
_PROFILE: Final = re.compile(r" *\[profile +(\d+)\]")
_NO_KERNELS: Final = frozenset({
    "NoOp", "Constant", "Signal", "Wait", "TrainStation", "shape_call", "signal", "wait",
})  # fmt: skip


def parse_engine(
    text: str, nodes: Mapping[str, str], library: str, built_for: str, profile: int = 0
) -> LayerList:
    """The layers of an engine in one of its profiles, from the inspector's JSON.

    `nodes` are the graph's ONNX nodes and their operators.

    Raises:
        UnreadableKernels: the JSON is in an unknown form or its layers do not add up.
    """
    try:
        information = json.loads(text)
        described = information["Layers"]
        if not all(isinstance(layer, dict) for layer in described):
            raise UnreadableKernels(
                "the inspector lists names alone; the engine was not built with detailed verbosity"
            )
        bindings = io_tensors(information)
        own = [_plainly_named(layer) for layer in described if _profile_of(layer) == profile]
        layers = _without_renames([_layer(layer, nodes) for layer in own])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableKernels(
            f"the engine inspector's JSON is in an unknown form ({type(error).__name__}: {error})"
        ) from None
    check_complete(layers, nodes, (Operation.CONV, Operation.GEMM, Operation.ADD))
    return LayerList(library, built_for, nodes, layers, bindings)


def _profile_of(described: Mapping[str, Any]) -> int:
    found = _PROFILE.search(described["Name"])
    return int(found[1]) if found else 0


def _plainly_named(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """A layer whose own and whose tensors' names say nothing of a profile."""
    plain: dict[str, Any] = {"Name": _PROFILE.sub("", described["Name"])}
    for key in ("Inputs", "Outputs", "Constants"):
        if key in described:
            plain[key] = [
                {**tensor, "Name": _PROFILE.sub("", tensor["Name"])} for tensor in described[key]
            ]
    return {**described, **plain}


def _layer(described: Mapping[str, Any], nodes: Mapping[str, str]) -> LayerRecord:
    name, kind = described["Name"], described["LayerType"]
    listed = _nodes_of(described, nodes)
    record = LayerRecord(
        name=name,
        type=kind,
        inputs=tuple(map(_tensor, described["Inputs"])),
        constants=tuple(map(_tensor, described.get("Constants", ()))),
        outputs=tuple(map(_tensor, described["Outputs"])),
        nodes=listed,
        does=_does(described, [OPERATORS.get(nodes[node], Operation.OTHER) for node in listed]),
        arithmetic=_arithmetic(described),
        weights=_weights(described),
    )
    inside = Operation.ADD in record.does and not PRODUCTS.isdisjoint(record.does)
    if inside and (described.get("HasResidual") == 0 or len(record.inputs) < 2):
        raise UnreadableKernels(f"{name} lists a residual sum and reads no second tensor")
    return record


def _nodes_of(described: Mapping[str, Any], nodes: Mapping[str, str]) -> tuple[str, ...]:
    if described["LayerType"] in _NO_KERNELS or _origin(described) == "REFORMAT":
        return ()  # named after the layer that it prepares an input for
    if described.get("Metadata"):
        listed = set(_METADATA.findall(described["Metadata"]))
        unknown = listed - set(nodes)
        if unknown:
            raise UnreadableKernels(
                f"{described['Name']} names {min(unknown)}, which is no node of the graph"
            )
    else:
        parts = re.split(r" \+ |, |\(|\)", described["Name"])
        listed = {part for part in parts if part in nodes}
    return tuple(node for node in nodes if node in listed)


def _origin(described: Mapping[str, Any]) -> str | None:
    return described.get("Origin")


def _does(described: Mapping[str, Any], operations: Sequence[Operation]) -> tuple[Operation, ...]:
    name, kind = described["Name"], described["LayerType"]
    if kind in _NO_KERNELS:
        return (Operation.OTHER,)
    if kind in _COMPILED:
        return what_it_does(name, kind, operations)
    if kind in _CONVOLUTIONS:
        main = [op for op in operations if op in PRODUCTS]
        if len(main) != 1:
            raise UnreadableKernels(f"{name}: a {kind} layer that lists {len(main)} of its kind")
        # TensorRT 8 leaves a Relu's node out of a quantized convolution's name.
        activation = described.get("Activation", described.get("ConvActivation"))
        kept = [op for op in operations if op not in {*_QDQ, Operation.OTHER}]
        if activation == "RELU" and Operation.RELU not in operations:
            kept.append(Operation.RELU)
        if kind in _WITH_POOL and Operation.MAXPOOL not in operations:
            kept.append(Operation.MAXPOOL)
        return in_order(kept)
    if PRODUCTS & set(operations):
        raise UnreadableKernels(f"{name}: a layer of the unknown type {kind} lists a convolution")
    if kind == "Reformat" and _origin(described) in {"QDQ", "CAST"}:
        casts = in_order([op for op in operations if op in {*_QDQ, Operation.CAST}])
        return casts or (Operation.REORDER,)
    if kind in _CASTS:
        return (_CASTS[kind],)
    if kind in _MOVES:
        return (Operation.REORDER,)
    if kind in _POOLS:
        return in_order(operations) or (Operation.AVGPOOL,)
    if kind in _SOFTMAX:
        return (Operation.SOFTMAX,)
    if kind in _POINTWISE:
        return in_order(operations) or (Operation.POINTWISE,)
    if {Operation.ADD, Operation.RELU} & set(operations):
        raise UnreadableKernels(f"{name}: a layer of the unknown type {kind} lists a sum or a Relu")
    return (Operation.OTHER,)


def _arithmetic(described: Mapping[str, Any]) -> ElementType | None:
    """What a convolution multiplies, where the inspector tells its weights' type."""
    weights = described.get("Weights", described.get("ConvWeights"))
    return DTYPES.get(weights["Type"]) if weights else None


def _weights(described: Mapping[str, Any]) -> int:
    """How many weights a convolution or product has, where the inspector counts them."""
    weights = described.get("Weights", described.get("ConvWeights"))
    return int(weights["Count"]) if weights else 0


def _tensor(described: Mapping[str, Any]) -> LayerTensor:
    dtype = tensor_type(described)
    if dtype is None:
        raise UnreadableKernels(f"{described['Name']} has an unknown type: {dict(described)}")
    return LayerTensor(described["Name"], tuple(map(int, described["Dimensions"])), dtype)


def _without_renames(layers: Sequence[LayerRecord]) -> tuple[LayerRecord, ...]:
    """The kernels alone, each reading tensors by the names under which they were written."""
    names: dict[str, str] = {}
    constants: set[str] = set()
    kernels = []
    for layer in layers:
        inputs = tuple(
            LayerTensor(names.get(t.name, t.name), t.dims, t.dtype)
            for t in layer.inputs
            if t.name not in constants
        )
        if layer.type == _RENAMES and len(inputs) == len(layer.outputs) == 1:
            names[layer.outputs[0].name] = inputs[0].name
        elif layer.type == "Constant":
            constants.update(tensor.name for tensor in layer.outputs)
        elif layer.type not in _NO_KERNELS:
            kernels.append(layer.reading(inputs))
    return tuple(kernels)
