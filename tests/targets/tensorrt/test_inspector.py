"""The engine inspector's JSON, on recordings of real engines (tests/reference/tensorrt)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from exporter.artifact import Dialect, Precision, Verdict
from exporter.passes.blocks import GraphFacts, ResidualBlock, Shortcut
from exporter.prove.certificate import Receipt
from exporter.prove.receipt import make_receipt
from exporter.targets import UnreadableKernels
from exporter.targets.tensorrt.inspector import parse_engine
from exporter.targets.tensorrt.records import LayerList

RECORDED = Path(__file__).parents[2] / "reference" / "tensorrt"
OPERATORS = "Conv Add Relu Gemm MaxPool GlobalAveragePool QuantizeLinear DequantizeLinear Flatten"


def recorded(name: str) -> dict[str, Any]:
    text = (RECORDED / f"inspector-resnet18-{name}.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def nodes_of(information: Mapping[str, Any]) -> dict[str, str]:
    """The ONNX nodes that the layers' names list (`Conv_5 + Add_6`), in the order of the graph."""
    names = " + ".join(layer["Name"] for layer in information["Layers"])
    found = re.findall(rf"(?<![\w:])(({'|'.join(OPERATORS.split())})_(\d+))\b", names)
    return {name: operator for name, operator, _ in sorted(set(found), key=lambda f: int(f[2]))}


def read(information: Mapping[str, Any], nodes: Mapping[str, str]) -> LayerList:
    return parse_engine(json.dumps(information), nodes, "TensorRT", "8.0")


def as_tensorrt_10(information: dict[str, Any], nodes: Mapping[str, str]) -> dict[str, Any]:
    """The same engine with the fields that TensorRT 10 has (NVIDIA/TensorRT#4020)."""
    for layer in information["Layers"]:
        listed = [part for part in layer["Name"].split(" + ") if part in nodes]
        origin = layer.get("Origin")
        layer["Metadata"] = (
            "" if origin == "REFORMAT" else "\x1e".join(f"[ONNX Layer: {n}]" for n in listed)
        )
        layer["StreamId"] = 0
        if layer["LayerType"] == "CaskConvolution":
            layer["HasResidual"] = int(len(layer["Inputs"]) == 2)
        layer["Name"] = f"a name that lists nothing {id(layer)}"
    return information


def as_tensorrt_11(information: dict[str, Any]) -> dict[str, Any]:
    """TensorRT 11: I/O Tensors for Bindings, Format and Datatype apart (its migration guide)."""
    words = {"FP32": "Float", "FP16": "Half", "Int8": "Int8"}
    for layer in information["Layers"]:
        for tensor in (*layer["Inputs"], *layer["Outputs"]):
            text = tensor.pop("Format/Datatype")
            tensor["Format"] = re.sub(r"FP32|FP16|Int8", "", text)
            tensor["Datatype"] = words[next(word for word in words if word in text)]
    names = information.pop("Bindings")
    information["I/O Tensors"] = [
        {"Name": names[0], "IOMode": "Input", "DataType": "Float"},
        {"Name": names[1], "IOMode": "Output", "DataType": "Float"},
    ]
    return information


@pytest.mark.parametrize("version", [8, 10, 11])
@pytest.mark.parametrize(
    ("name", "dtype"), [("fp16", "fp16"), ("int8", "int8"), ("int8-no-shortcut", "int8")]
)
def test_recorded_engines(name: str, dtype: str, version: int) -> None:
    information = recorded(name)
    nodes = nodes_of(information)
    if version >= 10:
        information = as_tensorrt_10(information, nodes)
    if version >= 11:
        information = as_tensorrt_11(information)
    kernels = read(information, nodes).kernels()
    convs = [kernel for kernel in kernels if "conv" in kernel.does]
    assert len(convs) == 20
    assert {kernel.dtype for kernel in convs} == {dtype}
    assert sum("add" in kernel.does for kernel in convs) == 8
    assert sum("relu" in kernel.does for kernel in convs) == 17
    assert not [k for k in kernels if "add" in k.does and "conv" not in k.does]
    # The Gemm runs as a convolution; its node tells.
    assert [k.op for k in kernels if "gemm" in k.does] == ["CaskConvolution"]


def test_without_qdq_on_the_shortcut_sums_are_written_in_fp16() -> None:
    """Why the dialect has it: else each block's output is quantized by a kernel of its own."""
    with_it, without = (
        read(recorded(name), nodes_of(recorded(name))).kernels()
        for name in ("int8", "int8-no-shortcut")
    )
    quantizing = [sum(k.does == ("quantize",) for k in kernels) for kernels in (with_it, without)]
    assert quantizing == [2, 10]


def test_noop_layers_are_no_kernels() -> None:
    information = recorded("fp16")
    kernels = read(information, nodes_of(information)).kernels()
    assert "NoOp" not in {kernel.op for kernel in kernels}
    written = {name for kernel in kernels for name in kernel.outputs}
    nothing_writes = {name for kernel in kernels for name in kernel.inputs} - written
    assert nothing_writes == {"input.1"}


def receipt(name: str) -> Receipt:
    """Of a recorded engine; the blocks as the graph's names lie in the recording."""
    information = recorded(name)
    kernels = read(information, nodes_of(information)).kernels()
    sums = [kernel for kernel in kernels if "add" in kernel.does]
    adds = [next(n for n in kernel.labels if n.startswith("Add")) for kernel in sums]
    # The recording has no module paths: each block is called after its sum.
    blocks = tuple(
        ResidualBlock(
            name=add, add=add, shortcut=Shortcut.IDENTITY, input="", output=add, nodes=(add,)
        )
        for add in adds
    )
    return make_receipt(
        kernels,
        "recorded",
        graph_facts=GraphFacts(convs=20, batchnorms_folded=20, blocks=blocks),
        precision=Precision.FP16 if name == "fp16" else Precision.INT8,
        dialect=Dialect.FLOAT if name == "fp16" else Dialect.S8_SYMMETRIC,
        expected=Verdict.FUSED,
    )


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_the_receipt_of_a_recorded_engine(name: str) -> None:
    result = receipt(name)
    assert result.reason is None
    assert result.verdict is Verdict.FUSED
    assert (result.residual_adds_fused, result.residual_adds) == (8, 8)


def planted_sum(information: dict[str, Any]) -> dict[str, Any]:
    """Takes one sum out of its convolution into an elementwise layer of its own, in FP16."""
    layers = information["Layers"]
    at = next(i for i, layer in enumerate(layers) if layer["Name"] == "Conv_10 + Add_11 + Relu_12")
    conv = layers[at]
    convolved = {**conv["Outputs"][0], "Name": "convolved"}
    sum_inputs = [convolved, conv["Inputs"].pop()]
    output = conv["Outputs"]
    conv["Outputs"] = [convolved]
    conv["Name"] = "Conv_10"
    conv["Activation"] = "NONE"
    alone = {
        "Name": "PWN(Add_11, PWN(Relu_12))",
        "LayerType": "PointWiseV2",
        "Inputs": sum_inputs,
        "Outputs": output,
    }
    layers.insert(at + 1, alone)
    return information


def test_a_sum_in_a_pointwise_layer_is_not_in_a_convolution() -> None:
    information = recorded("fp16")
    nodes = nodes_of(information)
    kernels = read(planted_sum(information), nodes).kernels()
    alone = next(k for k in kernels if "Add_11" in k.labels)
    assert alone.does == ("add", "relu")
    assert (alone.op, alone.dtype) == ("PointWiseV2", "fp16")
    assert sum({"conv", "add"} <= set(k.does) for k in kernels) == 7


def damaged(change: str) -> dict[str, Any]:
    information = recorded("fp16")
    layers = information["Layers"]
    fused = next(layer for layer in layers if layer["Name"] == "Conv_5 + Add_6 + Relu_7")
    match change:
        case "no layers":
            del information["Layers"]
        case "names alone":
            information["Layers"] = [layer["Name"] for layer in layers]
        case "a convolution less":
            layers.remove(fused)
        case "a convolution twice":
            layers.append(dict(fused))
        case "an opaque layer":
            fused["LayerType"] = "Myelin"
        case "a sum of one":
            del fused["Inputs"][1]
        case "no residual":
            fused["HasResidual"] = 0
        case "another type":
            fused["Inputs"][0]["Format/Datatype"] = "Row major FP2 format"
        case "no dimensions":
            del fused["Outputs"][0]["Dimensions"]
        case "a foreign node":
            fused["Metadata"] = "[ONNX Layer: Conv_5]\x1f[ONNX Layer: Add_99]"
    return information


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no layers", "unknown form"),
        ("names alone", "not built with detailed verbosity"),
        ("a convolution less", "the graph has 20 conv nodes, the kernels do 19"),
        ("a convolution twice", "the graph has 20 conv nodes, the kernels do 21"),
        ("an opaque layer", "unknown type Myelin lists a convolution"),
        ("a sum of one", "reads no second tensor"),
        ("no residual", "reads no second tensor"),
        ("another type", "unknown type"),
        ("no dimensions", "unknown form"),
        ("a foreign node", "no node of the graph"),
    ],
)
def test_what_does_not_add_up_is_unreadable(change: str, message: str) -> None:
    nodes = nodes_of(recorded("fp16"))
    with pytest.raises(UnreadableKernels, match=message):
        read(damaged(change), nodes)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"Layers": 3}', '{"Layers": [], "x": 1}'])
def test_foreign_json_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableKernels):
        parse_engine(text, {"Conv_0": "Conv"}, "TensorRT", "8.0")


def with_a_second_profile(information: dict[str, Any]) -> dict[str, Any]:
    """As an engine with two profiles is told: the second one's names end in "[profile 1]"."""
    again = json.loads(json.dumps(information))
    for layer in again["Layers"]:
        layer["Name"] += " [profile 1]"
        for tensor in (*layer["Inputs"], *layer["Outputs"]):
            tensor["Name"] += " [profile 1]"
            tensor["Dimensions"][0] = 1
    return {**information, "Layers": [*information["Layers"], *again["Layers"]]}


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_an_engine_with_several_profiles_is_read_one_profile_at_a_time(name: str) -> None:
    """Both at once would be twice as many convolutions as the graph has: an unreadable engine."""
    alone = recorded(name)
    nodes = nodes_of(alone)
    both = with_a_second_profile(recorded(name))
    first = read(both, nodes)
    assert first.kernels() == read(alone, nodes).kernels()
    second = parse_engine(json.dumps(both), nodes, "TensorRT", "8.0", profile=1)
    assert [kernel.name for kernel in second.kernels()] == [k.name for k in first.kernels()]
    assert second.layers[0].inputs[0].dims[0] == 1
    assert first.layers[0].inputs[0].dims[0] == 32
