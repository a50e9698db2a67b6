"""Files of older opsets keep their numbers in ours, or are refused with the node that changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.models.onnx_file import load_onnx
from tests.foreign import refused, write
from tests.graphs import random, relative_error, run


def network(opset: int, middle: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """A convolution, `middle` from c to m, and a head."""
    weights = {"w": random(4, 3, 3, 3), "v": random(5, 4, 1, 1, seed=1), **constants}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        *middle,
        helper.make_node("Conv", ["m", "v"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 6, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5, None, None])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=4)


def check_same_numbers(path: Path) -> None:
    model = load_onnx(path)
    assert model.graph is not None
    x = random(3, 3, 6, 10, seed=9)
    assert relative_error(run(model.graph, x), run(path.read_bytes(), x)) < 1e-6


def resize(opset: int, mode: str, *scales: float) -> onnx.ModelProto:
    kind = "Upsample" if opset < 10 else "Resize"
    node = helper.make_node(kind, ["c", "s"], ["m"], name="sizes", mode=mode)
    return network(opset, [node], s=np.array([1, 1, *scales], np.float32))


@pytest.mark.parametrize("scales", [(2, 2), (1.5, 2.5), (3, 1)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [9, 10])
def test_pictures_that_grow(tmp_path: Path, opset: int, mode: str, scales: list[float]) -> None:
    check_same_numbers(write(tmp_path, resize(opset, mode, *scales)))


@pytest.mark.parametrize("scales", [(0.5, 0.5), (0.4, 0.7), (2, 0.5), (1, 0.6)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_pictures_that_shrink(tmp_path: Path, mode: str, scales: list[float]) -> None:
    check_same_numbers(write(tmp_path, resize(10, mode, *scales)))


def test_a_picture_that_grows_and_shrinks_by_fractions_is_refused(tmp_path: Path) -> None:
    """Opset 20 has one rule of rounding for both axes."""
    path = write(tmp_path, resize(10, "nearest", 1.4, 0.6))
    refused(path, r"onnx's version converter changes its numbers .* first in 'sizes' \(Resize\)")


def test_scales_from_a_constant_node(tmp_path: Path) -> None:
    scales = numpy_helper.from_array(np.array([1, 1, 0.4, 0.7], np.float32))
    nodes = [
        helper.make_node("Constant", [], ["s"], value=scales),
        helper.make_node("Resize", ["c", "s"], ["m"], mode="nearest"),
    ]
    check_same_numbers(write(tmp_path, network(10, nodes)))


@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("opset", [9, 11, 12])
@pytest.mark.parametrize("kind", ["Hardmax", "Softmax", "LogSoftmax"])
def test_one_maximum_over_several_axes(
    tmp_path: Path, kind: str, opset: int, axis: int | None
) -> None:
    node = helper.make_node(kind, ["c"], ["m"])
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    path = write(tmp_path, network(opset, [node]))
    if axis == 0:
        refused(path, rf"depends on the other images of its batch, first in 'm' \({kind}\)")
    else:
        check_same_numbers(path)


@pytest.mark.parametrize("axis", [-1, -2, -3])
def test_axes_from_the_end(tmp_path: Path, axis: int) -> None:
    node = helper.make_node("Hardmax", ["c"], ["m"], axis=axis)
    check_same_numbers(write(tmp_path, network(11, [node])))


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 20, 21])
def test_a_hardmax_over_the_last_axis_stays_one_node(tmp_path: Path, opset: int) -> None:
    path = write(tmp_path, network(opset, [helper.make_node("Hardmax", ["c"], ["m"], axis=3)]))
    check_same_numbers(path)
    graph = load_onnx(path).graph
    assert graph is not None
    assert [node.op_type for node in graph.graph] == ["Conv", "Hardmax", "Conv"]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("opset", [9, 10])
def test_a_value_that_the_mode_of_a_pad_does_not_use(tmp_path: Path, opset: int, mode: str) -> None:
    pads = [0, 0, 1, 2, 0, 0, 2, 1]
    node = helper.make_node("Pad", ["c"], ["m"], mode=mode, pads=pads, value=0.5)
    check_same_numbers(write(tmp_path, network(opset, [node])))
