"""ONNX files that are not what they should be: each is one line that says why, before any use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from exporter.errors import InputError
from exporter.graph.optimize import optimize
from exporter.models import onnx_checks
from exporter.models.onnx_file import load_onnx
from tests.foreign import refused, resnet, write


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "net.onnx", "no such file")
    refused(tmp_path, "is not a file")


def test_what_is_no_onnx(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    content = resnet().SerializeToString()
    for wrong in (b"PK\x03\x04 a zip", b"# a text\n", content[: len(content) // 2]):
        path.write_bytes(wrong)
        refused(path, "is not an ONNX file, or it is truncated")
    path.write_bytes(b"")
    refused(path, "it has no graph")


def test_what_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31)  # a hole: it takes no space
    refused(path, "larger than 2 GiB")


Change = Callable[[onnx.ModelProto], object]


def node(proto: onnx.ModelProto, output: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(n for n in proto.graph.node if n.output[0] == output)
    return found


def cycle(proto: onnx.ModelProto) -> None:
    node(proto, "s1b1_2a").input[0] = "s1b2_out"


def unknown_operator(proto: onnx.ModelProto) -> None:
    node(proto, "s1b1_a").op_type = "Swish2"


def too_new_operator(proto: onnx.ModelProto) -> None:
    node(proto, "s1b1_a").op_type = "Mish"


def other_domain(proto: onnx.ModelProto) -> None:
    node(proto, "s1b1_a").domain = "com.microsoft"
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def local_function(proto: onnx.ModelProto) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 9)]
    proto.functions.append(helper.make_function("mine", "Act", ["a"], ["b"], body, opsets))


def nested_subgraphs(proto: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["pool"], ["z"])], "g", [], [])
    for _ in range(20):
        branch = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([branch], "g", [], [])
        if inner.ByteSize() > 100_000:
            break
    proto.graph.node.append(helper.make_node("If", ["c"], ["q"], then_branch=inner))


def missing_tensor(proto: onnx.ModelProto) -> None:
    node(proto, "s1b1_a").input[0] = "nobody"


def made_twice(proto: onnx.ModelProto) -> None:
    node(proto, "s1b1_b").output[0] = "s1b1_a"


def missing_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = "nobody"


def flat_input(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def output_twice(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(proto.graph.output[0])


def input_as_output(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(proto.graph.input[0])


def no_output(proto: onnx.ModelProto) -> None:
    del proto.graph.output[:]


def integer_output(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("ArgMax", ["logits"], ["best"], axis=1))
    proto.graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, None))


def flat_output(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("ReduceSum", ["logits"], ["total"], keepdims=0))
    proto.graph.output.append(helper.make_tensor_value_info("total", TensorProto.FLOAT, None))


def tokens(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def rows(proto: onnx.ModelProto) -> None:
    del proto.graph.input[0].type.tensor_type.shape.dim[2:]


def any_size(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"


def many_channels(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 64


def old(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 8


def from_the_future(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 999


def no_standard_operators(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].domain = "ai.onnx.ml"


def quantized(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 13
    node(proto, "s1b1_a").op_type = "QuantizeLinear"


def half(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    proto.graph.node.insert(
        0, helper.make_node("Cast", ["images:0"], ["half"], to=TensorProto.FLOAT16)
    )
    node(proto, "nchw").input[0] = "half"
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def lying_shape(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = 2**40


def short_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]


def wrong_shapes(proto: onnx.ModelProto) -> None:
    node(proto, "s1b1_2b").input[1] = "stem_W"


def wrong_attribute(proto: onnx.ModelProto) -> None:
    node(proto, "s1b1_a").attribute.append(helper.make_attribute("slope", 0.1))


def memory_bomb(proto: onnx.ModelProto) -> None:
    array = np.array([1, 1, 100_000, 100_000])
    proto.graph.initializer.append(onnx.numpy_helper.from_array(array, "times"))
    bomb = helper.make_node("Tile", ["pool", "times"], ["huge"])
    small = helper.make_node("ReduceMean", ["huge"], ["tamed"], axes=[2, 3], keepdims=1)
    proto.graph.node.extend([bomb, small])
    node(proto, "s1b1_2b").input[0] = "tamed"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (cycle, "the graph has a cycle through node"),
        (unknown_operator, "is 'Swish2', an operator that opset 9 has not"),
        (too_new_operator, "is 'Mish', an operator that opset 9 has not"),
        (other_domain, "is 'com.microsoft.Relu', which is not a standard ONNX operator"),
        (local_function, r"defines functions of its own \(Act\); inline them"),
        (nested_subgraphs, "has a subgraph; control flow is not accepted"),
        (missing_tensor, "reads 'nobody', which nothing makes"),
        (made_twice, "the tensor 's1b1_a' is made twice"),
        (missing_output, "nothing makes the output 'nobody'"),
        (flat_input, r"the input 'mask' has 1 dimensions, .* or vectors, float32 \(N, K\)"),
        (output_twice, "lists the output 'probabilities' twice"),
        (input_as_output, "no node makes the output 'images:0'"),
        (no_output, "has no output"),
        (integer_output, "the output 'best' is int64"),
        (flat_output, r"the output 'total' has the shape \(\)"),
        (tokens, "is INT64, expected a batch of images"),
        (rows, "has 2 dimensions, expected a batch of images"),
        (any_size, "height and width of the input 'images:0' must be fixed"),
        (many_channels, "with 1, 3 or 4 channels"),
        (old, "uses opset 8; opsets 9 to"),
        (from_the_future, "uses opset 999; opsets 9 to"),
        (no_standard_operators, "imports no standard operators"),
        (quantized, "give the float32 model, not a quantized one"),
        (half, "computes in FLOAT16; give the float32 model"),
        (lying_shape, "has the impossible shape"),
        (short_weight, "does not fill its shape"),
        (wrong_shapes, "ONNX Runtime cannot run it: "),
        (wrong_attribute, "it is not a valid ONNX model: Unrecognized attribute: slope"),
        (memory_bomb, "the tensor 'huge' would have 20,480,000,000,000 elements"),
    ],
)
def test_refused_with_its_reason(tmp_path: Path, change: Change, reason: str) -> None:
    proto = resnet()
    change(proto)
    refused(write(tmp_path, proto), reason)


def test_more_nodes_than_any_network_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_checks, "MOST_NODES", 20)
    refused(write(tmp_path, resnet()), "has 40 nodes; at most 20 are accepted")


CONTENT = resnet().SerializeToString()


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.integers(0, len(CONTENT) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_refused_or_read_but_never_crashes(
    tmp_path: Path, place: int, byte: int, cut: bool
) -> None:
    """One byte changed, or the file cut there: one line, or a model that still optimizes."""
    damaged = CONTENT[:place] if cut else CONTENT[:place] + bytes([byte]) + CONTENT[place + 1 :]
    path = tmp_path / "net.onnx"
    path.write_bytes(damaged)
    try:
        model = load_onnx(path)
    except InputError as error:
        message = str(error)
    else:
        assert model.graph is not None
        optimize(model.graph)
        message = ""
    assert "\n" not in message
