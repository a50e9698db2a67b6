"""The strict reader of TensorRT-RTX's layer list, on lists that were recorded from real builds."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.artifact import Kernel, Operation
from exporter.targets import UnreadableKernels
from exporter.targets.tensorrt.layer_list import layer_list_file, parse_layer_list
from exporter.targets.tensorrt.operations import what_it_does

RECORDED = Path(__file__).parents[2] / "reference" / "tensorrt"


def recorded(name: str) -> str:
    return (RECORDED / f"rtx-{name}.layers.txt").read_text(encoding="utf-8")


def counts(kernels: tuple[Kernel, ...]) -> dict[str, int]:
    """What a receipt rests on."""
    convs = [kernel for kernel in kernels if "conv" in kernel.does]
    return {
        "kernels": len(kernels),
        "convs": len(convs),
        "adds in convs": sum("add" in kernel.does for kernel in convs),
        "adds alone": sum("add" in k.does and "conv" not in k.does for k in kernels),
        "convs that write fp32": sum(k.output_dtypes == ("fp32",) for k in convs),
        "convs in int8": sum(k.dtype == "int8" for k in convs),
        "generated": sum(k.op == "kgen" for k in kernels),
    }


EXPECTED = {
    "resnet50-fp16": {
        "kernels": 58, "convs": 53, "adds in convs": 16, "adds alone": 0,
        "convs that write fp32": 0, "convs in int8": 0, "generated": 3,
    },
    "resnet50-int8": {
        "kernels": 106, "convs": 53, "adds in convs": 0, "adds alone": 16,
        "convs that write fp32": 53, "convs in int8": 53, "generated": 51,
    },
    "resnet18-fp16": {
        "kernels": 25, "convs": 20, "adds in convs": 8, "adds alone": 0,
        "convs that write fp32": 0, "convs in int8": 0, "generated": 3,
    },
    "resnet18-int8": {
        "kernels": 41, "convs": 20, "adds in convs": 0, "adds alone": 8,
        "convs that write fp32": 20, "convs in int8": 20, "generated": 19,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_lists(name: str) -> None:
    listed = parse_layer_list(recorded(name))
    assert listed.library == "TensorRT-RTX 1.7.1.116"
    assert listed.built_for == "sm89"
    assert counts(listed.kernels()) == EXPECTED[name]


def test_kernels_are_tied_to_the_graph_by_node_names_alone() -> None:
    kernels = {k.name: k for k in parse_layer_list(recorded("resnet50-fp16")).kernels()}
    fused = next(k for k in kernels.values() if "layer3.4.add" in k.labels)
    assert fused.labels == ("layer3.4.conv3", "layer3.4.add", "layer3.4.relu_2")
    assert fused.does == ("conv", "add", "relu")
    assert fused.dtype == "fp16"
    # Inner tensors carry the name of some node that touches them, mostly of the next block.
    assert all(name.startswith("tensorrt:") for name in (*fused.inputs, *fused.outputs))
    last = next(k for k in kernels.values() if "gemm" in k.does)
    assert last.outputs == ("logits",)


def test_a_projection_takes_the_sum_in_the_shortcut_convolution() -> None:
    kernels = parse_layer_list(recorded("resnet50-fp16")).kernels()
    fused = next(k for k in kernels if "layer2.0.add" in k.labels)
    assert "layer2.0.downsample.0" in fused.labels
    assert "layer2.0.conv3" not in fused.labels


def test_a_grouped_convolution_and_a_sum_are_told_by_the_steps_in_the_name() -> None:
    name = "__myl_CorrAddRelu_myl0_5"
    listed = [Operation.CONV, Operation.ADD, Operation.RELU]
    assert what_it_does(name, "runtime_fusion", listed) == ("conv", "add", "relu")
    # Without the step, the node is listed for another reason.
    listed = [Operation.CAST, Operation.CONV, Operation.RELU]
    assert what_it_does("__myl_CastReplConc_myl0_1", "kgen", listed) == ("reorder", "cast")


def test_quantizations_before_and_after_a_sum_are_told_apart() -> None:
    listed = [Operation.ADD, Operation.RELU, Operation.QUANTIZE, Operation.DEQUANTIZE]
    identity = "__myl_CastMulMulAddAddReluMulMinMaxRounCast_myl0_8"
    assert what_it_does(identity, "kgen", listed) == ("dequantize", "add", "relu", "quantize")
    both = "__myl_CastMulMulAddMulMinMaxRounCastCastMulAddReluMulMinMaxRounCast_myl0_8"
    assert what_it_does(both, "kgen", listed)[:2] == ("quantize", "dequantize")


@pytest.mark.parametrize(
    ("kind", "name", "operations", "message"),
    [
        ("correlation", "a_myl0_0", ["relu"], "lists 0 of its kind"),
        ("correlation", "a_myl0_0", ["conv", "conv"], "lists 2 of its kind"),
        ("conv_transposed", "a_myl0_0", ["conv"], "unknown type"),
        ("kgen", "something_else_0", ["add"], "does not spell its steps"),
        ("kgen", "__myl_Fc_myl0_0", ["conv"], "a kgen kernel with or without"),
        ("runtime_fusion", "__myl_Fc_myl0_0", ["add"], "for no Conv or Gemm"),
        ("kgen", "__myl_AddRelu_myl0_0", ["add", "relu", "relu"], "lists 2 relu nodes"),
        ("kgen", "__myl_AddRelu_myl0_0", ["add"], "spells a Relu and lists none"),
        ("correlation", "a_myl0_0", ["conv", "add", "add"], "two sums"),
    ],
)
def test_what_was_never_seen_is_refused(
    kind: str, name: str, operations: list[str], message: str
) -> None:
    with pytest.raises(UnreadableKernels, match=message):
        what_it_does(name, kind, [Operation(operation) for operation in operations])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TensorRT-RTX 1.7", "TensorRT-XYZ 1.7", "library and its version"),
        ("LayerType: maxpool", "LayerType: minpool", "unknown type"),
        ("Datatype: Half", "Datatype: Quarter", "unknown type Quarter"),
        ("[ONNX Layer: layer1.0.add]", "[ONNX Layer: layer1.0.addd]", "no node of the graph"),
        ("[ONNX Layer: layer1.0.add]", "[ONNX Layer: layer1.1.add]", "done by 0 kernels"),
        ("Parsing node: layer1.0.add [Add]", "Parsing node: layer1.0.add [Sum]", "known operator"),
        ("Parsing node: relu [Relu]", "Parsing node: conv1 [Relu]", "two ONNX nodes"),
        (", StreamId: 0, Metadata: ", ", Metadata: ", "no single"),
        ("_myl0_7, LayerType", "_myl0_8, LayerType", "is not the kernel number 7"),
        ("I/O Tensors:", "Bindings:", "no closed section"),
        ("IOMode: Output", "IOMode: Hidden", "unknown input or output"),
    ],
)
def test_a_changed_list_is_unreadable_and_says_where(old: str, new: str, message: str) -> None:
    text = recorded("resnet18-fp16")
    assert old in text
    with pytest.raises(UnreadableKernels, match=message):
        parse_layer_list(text.replace(old, new, 1))


def test_a_kernel_left_out_is_noticed_even_if_all_is_numbered_again() -> None:
    lines = recorded("resnet18-fp16").split("\n")
    start = lines.index("Layers:") + 1
    first = next(i for i in range(start, len(lines)) if "layer3.1.conv2" in lines[i])
    gone = lines[:first] + lines[first + 1 :]
    for index in range(first, len(gone)):
        number = index - start
        gone[index] = gone[index].replace(f"_myl0_{number + 1}, Layer", f"_myl0_{number}, Layer")
    gone[-2] = gone[-2].replace("26 layers", "25 layers")
    with pytest.raises(UnreadableKernels, match="which nothing wrote"):
        parse_layer_list("\n".join(gone))


def test_only_nodes_and_layers_are_kept_of_a_log() -> None:
    lines = recorded("resnet18-fp16").split("\n")
    start = lines.index("Layers:")
    block = "\n".join(lines[start:-2])
    messages = [
        "Input filename:   /home/somebody/resnet18.onnx",
        *lines[1:start],
        "Total Weights Memory: 123",
        block + "\n",
    ]
    again = layer_list_file(lines[0], messages)
    assert again == recorded("resnet18-fp16")
    assert "somebody" not in again


# Fuzzing. A list that was damaged may be unreadable, or it may still be the same account (where
# the damage hit a stride, a tactic or a dimension); it is never another count, and never a crash.

TEXTS = {name: recorded(name) for name in ("resnet18-fp16", "resnet18-int8")}
FUZZ = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def check(name: str, damaged: str) -> None:
    try:
        kernels = parse_layer_list(damaged).kernels()
    except UnreadableKernels:
        return
    assert counts(kernels) == EXPECTED[name]


@FUZZ
@given(name=st.sampled_from(sorted(TEXTS)), share=st.floats(0, 1))
def test_fuzz_truncated(name: str, share: float) -> None:
    text = TEXTS[name]
    cut = text[: int(share * len(text))]
    if cut != text:
        with pytest.raises(UnreadableKernels):
            parse_layer_list(cut)


@FUZZ
@given(name=st.sampled_from(sorted(TEXTS)), seed=st.integers(0, 2**32))
def test_fuzz_lines_dropped_doubled_and_reordered(name: str, seed: int) -> None:
    chance = random.Random(seed)
    lines = TEXTS[name].split("\n")
    for _ in range(chance.randint(1, 4)):
        here, there = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(3):
            case 0:
                del lines[here]
            case 1:
                lines.insert(there, lines[here])
            case _:
                lines[here], lines[there] = lines[there], lines[here]
    check(name, "\n".join(lines))


@FUZZ
@given(name=st.sampled_from(sorted(TEXTS)), seed=st.integers(0, 2**32))
def test_fuzz_characters_and_words(name: str, seed: int) -> None:
    chance = random.Random(seed)
    text = TEXTS[name]
    words = [
        "Half",
        "Int8",
        "Float",
        "correlation",
        "kgen",
        "Add",
        "[",
        "]",
        ",",
        "\n",
        "\x1f",
        "-1",
    ]
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(text))
        if chance.random() < 0.5:
            text = text[:at] + chance.choice(words) + text[at + chance.randrange(6) :]
        else:
            text = text[:at] + chr(chance.randrange(1, 0x250)) + text[at + 1 :]
    check(name, text)


# What a careless edit or another version would put: words that belong here, in other places.
VALID = (
    r"Datatype: (Half|Float|Int8)",
    r"LayerType: (correlation|gemm|kgen|runtime_fusion|maxpool|shape_call|signal|wait)",
    r"\[(Conv|Add|Relu|Gemm|MaxPool|Flatten|QuantizeLinear)\]",
    r"(layer\d\.\d\.(?:conv\d|add|relu(?:_\d)?))\]",
)


@FUZZ
@given(name=st.sampled_from(sorted(TEXTS)), seed=st.integers(0, 2**32))
def test_fuzz_known_words_exchanged(name: str, seed: int) -> None:
    chance = random.Random(seed)
    text = TEXTS[name]
    for _ in range(chance.randint(1, 2)):
        found = list(re.finditer(chance.choice(VALID), text))
        here, other = chance.choice(found), chance.choice(found)
        text = text[: here.start(1)] + other[1] + text[here.end(1) :]
    check(name, text)


@FUZZ
@given(text=st.text(), around=st.booleans())
def test_fuzz_foreign(text: str, around: bool) -> None:
    if around:
        text = (
            f"TensorRT-RTX 1.0, built for sm89\nLayers:\n{text}\nEnd of list: 0 nodes, 0 layers\n"
        )
    with pytest.raises(UnreadableKernels):
        parse_layer_list(text)


def test_the_fuzzed_lists_hold_what_can_be_damaged() -> None:
    """The fuzzing would prove nothing on a list without sums, streams or quantization."""
    kinds = Counter(k.op for k in parse_layer_list(TEXTS["resnet18-int8"]).kernels())
    assert {"correlation", "kgen", "maxpool"} <= set(kinds)
    assert "LayerType: signal" in TEXTS["resnet18-int8"]
    assert "LayerType: runtime_fusion" in TEXTS["resnet18-fp16"]
