"""ONNX files made elsewhere: what goes through with its numbers, and what is refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporter.artifact import Dialect, Precision, Skipped
from exporter.graph.files import serialize
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.models.onnx_file import load_onnx
from exporter.passes.blocks import find_residual_blocks
from tests.foreign import CLASSES, SIDE, refused, resnet, write
from tests.graphs import graph, operators, random, relative_error, run

# The given file and ours, both in float32 by ONNX Runtime without optimizations.
TOLERANCE = 1e-6


def images(batch: int, *, channels_last: bool) -> np.ndarray:
    shape = (batch, SIDE, SIDE, 3) if channels_last else (batch, 3, SIDE, SIDE)
    return random(*shape, seed=batch)


def check_same_numbers(path: Path, *, channels_last: bool, batches: tuple[int, ...]) -> None:
    """Of the converted, the optimized and the fused graph, against the file as it was given."""
    model = load_onnx(path)
    assert model.graph is not None
    assert model.given is not None
    optimized, _ = optimize(export(model))
    fused, _ = lower(optimized, Lowering(Precision.FP32, Dialect.FLOAT_FUSED))
    assert operators(fused).count("FusedConv") == 13
    for batch in batches:
        x = images(batch, channels_last=channels_last)
        expected = run(model.given, x)
        for made in (model.graph, optimized, fused):
            assert relative_error(run(made, x), expected) < TOLERANCE


# What goes through


def test_a_tensorflow_export(tmp_path: Path) -> None:
    """NHWC, opset 9, folded, one-sided padding, unnamed nodes, a Softmax at the end."""
    path = write(tmp_path, resnet())
    check_same_numbers(path, channels_last=True, batches=(1, 3))
    model = load_onnx(path)
    assert model.graph is not None
    assert model.graph.opset_imports == {"": 20}
    assert model.graph.ir_version == 10
    optimized, reports = optimize(model.graph)
    blocks = find_residual_blocks(optimized)
    assert [(block.name, block.shortcut) for block in blocks] == [
        ("block1", "projection"),
        ("block2", "identity"),
        ("block3", "projection"),
        ("block4", "identity"),
    ]
    for block in blocks:
        for name in (block.add, block.output, *block.nodes):
            assert name.startswith(f"{block.name}.")
    assert operators(optimized)[-4:] == ["GlobalAveragePool", "Flatten", "Gemm", "Softmax"]
    assert sum(report.fired for report in reports if report.name == "fold_batchnorm") == 0


def test_what_the_specification_says(tmp_path: Path) -> None:
    path = write(tmp_path, resnet(), "a net (v2).onnx")
    model = load_onnx(path)
    spec = model.spec
    assert (spec.name, spec.source, spec.kind) == ("a_net_v2", "a net (v2).onnx", "onnx")
    assert spec.input.name == "images:0"
    assert spec.input.dtype == "float32"
    assert spec.input.shape == ("unk__1", SIDE, SIDE, 3)
    assert spec.output.name == "probabilities"
    assert spec.output.shape == ("unk__1", CLASSES)
    assert isinstance(spec.preprocessing, Skipped)
    assert spec.weights.trained
    assert spec.weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.given == path.read_bytes()
    assert model.module is None
    assert model.notes == ()


def test_parameters_and_macs_by_hand(tmp_path: Path) -> None:
    spec = load_onnx(write(tmp_path, resnet())).spec
    stem = 3 * 8 * 9, SIDE**2
    first = [(8 * 16, 256), (8 * 4, 256), (4 * 4 * 9, 256), (4 * 16, 256)]
    second = [(16 * 4, 256), (4 * 4 * 9, 256), (4 * 16, 256)]
    third = [(16 * 32, 64), (16 * 4, 64), (4 * 4 * 9, 64), (4 * 32, 64)]
    fourth = [(32 * 4, 64), (4 * 4 * 9, 64), (4 * 32, 64)]
    layers = [stem, *first, *second, *third, *fourth, (32 * CLASSES, 1)]
    assert spec.macs == sum(weights * pixels for weights, pixels in layers)
    biases = 8 + (16 + 4 + 4 + 16) + (4 + 4 + 16) + (32 + 4 + 4 + 32) + (4 + 4 + 32) + CLASSES
    assert spec.parameters == sum(weights for weights, _ in layers) + biases


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 20, 21, 23])
def test_opsets_from_9(tmp_path: Path, opset: int) -> None:
    head = "pytorch" if opset % 2 else "tensorflow"
    path = write(tmp_path, resnet(opset=opset, head=head, named=True))
    check_same_numbers(path, channels_last=True, batches=(2,))


@pytest.mark.parametrize("ir_version", [3, 4])
def test_weights_among_the_inputs(tmp_path: Path, ir_version: int) -> None:
    """As every file had them before IR version 4; they are no part of the interface."""
    path = write(tmp_path, resnet(listed_weights=True, ir_version=ir_version))
    check_same_numbers(path, channels_last=True, batches=(2,))
    loaded = load_onnx(path).graph
    assert loaded is not None
    assert [value.name for value in loaded.graph.inputs] == ["images:0"]


def test_channels_first_and_a_fixed_batch(tmp_path: Path) -> None:
    path = write(tmp_path, resnet(channels_last=False, batch=2, head="pytorch"))
    check_same_numbers(path, channels_last=False, batches=(2,))
    spec = load_onnx(path).spec
    assert spec.input.shape == (2, 3, SIDE, SIDE)
    assert spec.output.shape == (2, CLASSES)
    assert spec.image_shape == (3, SIDE, SIDE)


@pytest.mark.parametrize("size", [0, -1, None])
def test_a_batch_without_a_name_is_dynamic(tmp_path: Path, size: int | None) -> None:
    proto = resnet()
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0]
    batch.Clear()
    if size is not None:
        batch.dim_value = size
    path = write(tmp_path, proto)
    assert load_onnx(path).spec.input.shape[0] == "batch"
    check_same_numbers(path, channels_last=True, batches=(1, 3))


def test_a_batch_that_the_graph_fixes_is_fixed_with_a_note(tmp_path: Path) -> None:
    """Declared dynamic, but the head reshapes to one row."""
    proto = resnet()
    for tensor in proto.graph.initializer:
        if tensor.name == "to_nhwc":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 1, 1, 32]), "to_nhwc"))
        if tensor.name == "to_rows":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 32]), "to_rows"))
    path = write(tmp_path, proto)
    model = load_onnx(path)
    assert model.spec.input.shape[0] == 1
    assert "built for a batch of 1" in model.notes[0]
    check_same_numbers(path, channels_last=True, batches=(1,))


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    proto = resnet()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    path = write(tmp_path, proto)
    model = load_onnx(path)
    assert model.graph is not None
    x = images(2, channels_last=True)
    in_order = write(tmp_path, resnet(), "sorted.onnx").read_bytes()
    assert relative_error(run(model.graph, x), run(in_order, x)) < TOLERANCE


def test_stale_inner_shapes_are_inferred_anew(tmp_path: Path) -> None:
    """Somebody made the batch dynamic by hand and left the rest."""
    proto = resnet()
    proto.graph.value_info.append(
        helper.make_tensor_value_info("pool", TensorProto.FLOAT, [1, 8, 99, 99])
    )
    check_same_numbers(write(tmp_path, proto), channels_last=True, batches=(2,))


def test_metadata_of_the_other_machine_does_not_reach_our_graph(tmp_path: Path) -> None:
    proto = resnet(named=True)
    proto.graph.node[0].doc_string = "/home/somebody/train.py"
    proto.graph.node[0].metadata_props.add(key="stack_trace", value="/home/somebody/net.py")
    loaded = load_onnx(write(tmp_path, proto)).graph
    assert loaded is not None
    optimized, _ = optimize(loaded)
    assert not any(node.metadata_props or node.doc_string for node in optimized.graph)
    assert optimized.producer_name is None


def test_names_of_the_older_pytorch_exporter_and_a_normalization(tmp_path: Path) -> None:
    """They hold the module paths; the normalization is folded here."""
    model = graph(
        """main (float[N,3,8,8] x) => (float[N,3,8,8] y) {
            i = Relu (x)
            c = Conv <pads=[1,1,1,1]> (i, w)
            n = BatchNormalization (c, g, h, m, v)
            s = Add (n, i)
            z = Relu (s)
            y = Sigmoid (z)
        }""",
        w=random(3, 3, 3, 3),
        **{name: random(3, seed=i, low=0.5) for i, name in enumerate("ghmv")},
    )
    names = [
        "/relu/Relu",
        *(f"/layer1/layer1.0/{n}" for n in ("conv1/Conv", "bn1/B", "Add", "relu/R")),
    ]
    for node, name in zip(model.graph, names, strict=False):
        node.name = name
    given = load_onnx(write(tmp_path, onnx.load_model_from_string(serialize(model)))).graph
    assert given is not None
    optimized, _ = optimize(given)
    (block,) = find_residual_blocks(optimized)
    assert block.nodes == ("layer1.0.conv1", "layer1.0.add", "layer1.0.relu")
    x = random(2, 3, 8, 8, seed=9)
    assert relative_error(run(optimized, x), run(model, x)) < TOLERANCE


# Weights beside the file


def with_external_data(folder: Path, location: str = "weights/net.bin") -> onnx.ModelProto:
    """The weights of the small network in one file beside it, each at its offset."""
    proto = resnet()
    content = b""
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) < 64:
            continue
        entries = {"location": location, "offset": len(content), "length": len(tensor.raw_data)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        content += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    path = folder / "weights" / "net.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return proto


def test_external_weights_are_read_and_inlined(tmp_path: Path) -> None:
    path = write(tmp_path, with_external_data(tmp_path))
    check_same_numbers(path, channels_last=True, batches=(2,))
    model = load_onnx(path)
    assert model.given is not None
    assert model.spec.weights.sha256 == hashlib.sha256(model.given).hexdigest()
    inside = load_onnx(write(tmp_path, resnet(), "inside.onnx"))
    assert inside.given is not None
    x = images(2, channels_last=True)
    assert (run(model.given, x) == run(inside.given, x)).all()


def test_external_weights_that_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path, with_external_data(tmp_path))
    (tmp_path / "weights" / "net.bin").unlink()
    refused(path, "is in 'weights/net.bin', which is missing; put it beside the model")


def test_external_weights_that_are_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path, with_external_data(tmp_path))
    weights = tmp_path / "weights" / "net.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused(path, "truncated or belongs to another model")


@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../secret.bin", "weights/../../secret.bin", "C:\\secret.bin", "..\\secret.bin",
     "\\\\server\\secret.bin", "", "weights/net.bin\0"],
)  # fmt: skip
def test_external_weights_outside_the_folder_are_not_read(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(100_000))
    refused(write(folder, with_external_data(folder, location)), "outside the model's folder")


def test_external_weights_behind_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = write(folder, with_external_data(folder))
    (folder / "weights").rename(tmp_path / "elsewhere")
    (folder / "weights").symlink_to(tmp_path / "elsewhere")
    refused(path, "outside the model's folder")


def test_external_weights_that_are_no_file(tmp_path: Path) -> None:
    """A pipe would keep the reader waiting for ever."""
    path = write(tmp_path, with_external_data(tmp_path))
    (tmp_path / "weights" / "net.bin").unlink()
    os.mkfifo(tmp_path / "weights" / "net.bin")
    refused(path, "which is missing")


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "-4"), ("offset", "x"), ("length", "99999999")]
)
def test_external_weights_at_an_impossible_place(tmp_path: Path, key: str, value: str) -> None:
    proto = with_external_data(tmp_path)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value
    refused(write(tmp_path, proto), "is outside|is not a number")
