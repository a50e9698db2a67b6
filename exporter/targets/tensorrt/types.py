"""Are the types that were built the types that the graph asks for?

TensorRT 11 and TensorRT-RTX take precision from the graph; a tool that asks for it in the old way
gets FP32 without a word. So each convolution's type in the builder's list is compared with the
lowered graph's: FP16 where its weights are, INT8 or FP8 where both its inputs are dequantized from
it. One that was to be in FP8 may be built in float: its receipt counts that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from exporter.artifact import ElementType, Operation, Precision
from exporter.errors import BuildError
from exporter.targets.tensorrt.records import LayerList

_FLOATS: Final = (ElementType.FP32, ElementType.FP16)
_NAMES: Final[Mapping[str, ElementType]] = {
    "FLOAT": ElementType.FP32,
    "FLOAT16": ElementType.FP16,
    "BFLOAT16": ElementType.BF16,
}
_QUANTIZED: Final[Mapping[str, ElementType]] = {"FLOAT8E4M3FN": ElementType.FP8}


def asked_types(graph: Path) -> dict[str, ElementType]:
    """Convolution node -> what the ONNX file asks it to compute in."""
    import onnx

    model = onnx.load(graph, load_external_data=False).graph
    weights = {
        tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type)
        for tensor in model.initializer
    }
    writers = {output: node for node in model.node for output in node.output}
    asked = {}
    for node in model.node:
        if node.op_type == "Conv":
            ends = [writers.get(name) for name in node.input[:2]]
            if all(end is not None and end.op_type == "DequantizeLinear" for end in ends):
                codes = [weights.get(end.input[0], "") for end in ends if end is not None]
                asked[node.name] = _QUANTIZED.get(codes[1], ElementType.INT8)
            else:
                dtype = weights.get(node.input[1], "")
                asked[node.name] = _NAMES.get(dtype, ElementType.UNKNOWN)
    return asked


def check_types(
    built: LayerList, asked: Mapping[str, ElementType], precision: Precision, what: str
) -> None:
    """Raises BuildError where a convolution was built in another type than the graph's.

    Also where the graph has not one convolution in the precision that the engine is named after.
    """
    wrong = []
    for layer in built.layers:
        if Operation.CONV in layer.does:
            for node in layer.nodes:
                if asked.get(node) is ElementType.FP8 and layer.dtype in _FLOATS:
                    continue
                if node in asked and asked[node] != layer.dtype:
                    wrong.append(f"{node} in {layer.dtype} instead of {asked[node]}")
    if wrong:
        raise BuildError(
            f"{what}: {len(wrong)} of {len(asked)} convolutions were built in another type than "
            f"the graph asks for ({wrong[0]})"
        )
    wanted = ElementType(precision)
    if asked and wanted not in asked.values():
        raise BuildError(
            f"{what}: no convolution of the lowered graph is in {wanted} "
            f"(they are in {', '.join(sorted(set(asked.values())))})"
        )
