"""ONNX files whose answers depend on chance or on other images, or are no float32 scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.models.onnx_file import load_onnx
from tests.foreign import refused, write
from tests.graphs import random

Nodes = list[onnx.NodeProto]
NODE = helper.make_node


def network(
    middle: Nodes, *, opset: int = 15, batch: int | str = "N", end: Nodes | None = None
) -> onnx.ModelProto:
    """A convolution, `middle` from c to m, a head to z, and `end` from z to y."""
    weights = {
        "w": random(4, 3, 3, 3),
        "v": random(5, 4, seed=1),
        **{name: random(4, seed=i, low=0.5) for i, name in enumerate(("gamma", "beta", "mu"))},
        "var": np.full(4, 0.7, np.float32),
        "half": np.float32(0.5),
        "seldom": np.float32(0.0035),
        "nothing": np.float32(0),
        "yes": np.array(True),
        "no": np.array(False),
        "zero": np.float32(0),
    }
    nodes = [
        NODE("Conv", ["x", "w"], ["c"]),
        *middle,
        NODE("GlobalAveragePool", ["m"], ["p"]),
        NODE("Flatten", ["p"], ["f"]),
        NODE("Gemm", ["f", "v"], ["z"], transB=1),
        *(end or [NODE("Identity", ["z"], ["y"])]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    shaped = onnx.shape_inference.infer_shapes(model)
    del shaped.graph.value_info[:]
    return shaped


def batchnorm(*, training: bool) -> Nodes:
    inputs = ["c", "gamma", "beta", "mu", "var"]
    outputs = ["m", "new_mu", "new_var"] if training else ["m"]
    return [NODE("BatchNormalization", inputs, outputs, name="bn", training_mode=int(training))]


def dropout(ratio: str, training: str) -> Nodes:
    return [NODE("Dropout", ["c", ratio, training], ["m"], name="drop")]


NOISE: Nodes = [
    NODE("RandomNormalLike", ["c"], ["n"], name="noise", scale=0.1, seed=1.0),
    NODE("Add", ["c", "n"], ["m"]),
]
CENTRED: Nodes = [
    NODE("ReduceMean", ["c"], ["mean"], name="mean", axes=[0]),
    NODE("Sub", ["c", "mean"], ["m"], name="centre"),
]
OVER_THE_BATCH: Nodes = [NODE("Softmax", ["c"], ["m"], name="over", axis=0)]


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (dropout("half", "yes"), r"first in 'drop' \(Dropout, in training mode\)"),
        (NOISE, r"first in 'noise' \(RandomNormalLike\)"),
        ([NODE("Bernoulli", ["q"], ["m"], name="toss")], r"first in 'toss' \(Bernoulli\)"),
    ],
    ids=["dropout", "noise", "coin"],
)
def test_chance_is_found_and_named(tmp_path: Path, middle: Nodes, named: str) -> None:
    if middle[0].op_type == "Bernoulli":
        middle = [NODE("Sigmoid", ["c"], ["q"]), *middle]
    path = write(tmp_path, network(middle))
    refused(path, f"answers the same images differently each time, {named}; export it in")


def test_chance_that_shows_seldom_is_found(tmp_path: Path) -> None:
    """One value a run of the 288 in two images: every third run drops none."""
    refused(write(tmp_path, network(dropout("seldom", "yes"))), "differently each time")


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (batchnorm(training=True), r"first in 'bn' \(BatchNormalization, in training mode\)"),
        (CENTRED, r"first in 'mean' \(ReduceMean\)"),
        (OVER_THE_BATCH, r"first in 'over' \(Softmax\)"),
    ],
    ids=["batchnorm", "centred", "softmax"],
)
@pytest.mark.parametrize("batch", ["N", 2, 3])
def test_neighbours_are_found_and_named(
    tmp_path: Path, middle: Nodes, named: str, batch: int | str
) -> None:
    path = write(tmp_path, network(middle, batch=batch))
    if middle is CENTRED:
        named = r"first in '(mean|centre)' \((ReduceMean|Sub)\)"
    refused(path, f"depends on the other images of its batch, {named}; export it in")


@pytest.mark.parametrize(
    "middle",
    [
        batchnorm(training=False),
        dropout("half", "no"),
        dropout("nothing", "yes"),
        [NODE("RandomNormalLike", ["c"], ["n"]), NODE("Mul", ["n", "zero"], ["o"]),
         NODE("Add", ["c", "o"], ["m"])],
        [NODE("InstanceNormalization", ["c", "gamma", "beta"], ["m"])],
    ],
    ids=["batchnorm", "dropout", "dropout of nothing", "noise of nothing", "instance norm"],
)  # fmt: skip
def test_what_answers_an_image_alone_passes(tmp_path: Path, middle: Nodes) -> None:
    assert load_onnx(write(tmp_path, network(middle))).graph is not None


def test_batchnorm_in_training_mode_for_a_batch_of_one(tmp_path: Path) -> None:
    """There are no neighbours: it is the image's own statistics."""
    path = write(tmp_path, network(batchnorm(training=True), batch=1))
    assert load_onnx(path).spec.input.shape[0] == 1


def cast(kind: int) -> Nodes:
    return [NODE("Cast", ["z"], ["y"], to=kind)]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ([NODE("ArgMax", ["z"], ["y"], axis=1)], "int64, expected float32 scores: leave out what"),
        ([NODE("Greater", ["z", "half"], ["y"])], "bool, expected float32 scores: leave out what"),
        (cast(TensorProto.DOUBLE), "float64, expected float32 scores: end it with a cast"),
        (cast(TensorProto.FLOAT16), "float16, expected float32 scores: end it with a cast"),
        (cast(TensorProto.INT32), "int32, expected float32 scores: leave out what"),
    ],
    ids=["argmax", "threshold", "float64", "float16", "int32"],
)
def test_outputs_of_another_type_are_refused(tmp_path: Path, end: Nodes, words: str) -> None:
    refused(write(tmp_path, network(batchnorm(training=False), end=end)), f"'y' is {words}")


def test_one_row_for_all_images_is_refused(tmp_path: Path) -> None:
    end = [NODE("ReduceMean", ["z"], ["y"], axes=[0], keepdims=1)]
    path = write(tmp_path, network(batchnorm(training=False), end=end, batch=2))
    refused(path, r"has the shape \(1, 5\) for 2 image\(s\), expected one row for each image")
