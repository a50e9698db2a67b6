"""ONNX files of operators that our opset has not, and of those that it has no longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.artifact import Dialect, Precision
from exporter.errors import InputError
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.models.onnx_file import load_onnx
from exporter.models.onnx_format import OPSET
from exporter.targets import BuildOptions, get_target
from tests.graphs import random, relative_error, run

X = random(2, 3, 8, 8, seed=5)


def written(
    path: Path,
    opset: int,
    body: list[onnx.NodeProto],
    *,
    batch: int | str | None = "N",
    of_output: int | str | None = "N",
) -> Path:
    """A convolution, `body` from its result "c" (N, 8, 8, 8) to "t", pooling, a classifier."""
    weights = {
        "w": random(8, 3, 3, 3, seed=1),
        "fc": random(8, 5, seed=2),
        "ones": np.ones(8, np.float32),
        "zeros": np.zeros(8, np.float32),
        "row": np.ones(8, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        *body,
        helper.make_node("GlobalAveragePool", ["t"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "fc"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [of_output, 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = max(4, helper.find_min_ir_version_for(opsets))
    path.write_bytes(model.SerializeToString())
    return path


def op(kind: str, *inputs: str, **attributes: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(kind, ["c", *inputs], ["t"], **attributes)]


KEPT = {
    "GroupNormalization-21": (21, op("GroupNormalization", "ones", "zeros", num_groups=2)),
    "GroupNormalization in 22": (22, op("GroupNormalization", "ones", "zeros", num_groups=4)),
    "GlobalMaxPool-22": (22, op("GlobalMaxPool")),
    "RMSNormalization-23": (23, op("RMSNormalization", "row")),
    "Swish-24": (24, op("Swish")),
}


@pytest.mark.parametrize("operator", KEPT)
@pytest.mark.parametrize("target", ["ort-cpu", "openvino"])
def test_what_has_no_way_down_keeps_its_opset(tmp_path: Path, operator: str, target: str) -> None:
    opset, body = KEPT[operator]
    model = load_onnx(written(tmp_path / "m.onnx", opset, body))
    assert model.spec.opset == opset
    (note,) = model.notes
    assert f"stays in opset {opset}" in note
    assert model.given is not None
    expected = run(model.given, X)
    optimized, _ = optimize(export(model))
    assert relative_error(run(optimized, X), expected) < 1e-6
    half, _ = lower(optimized, Lowering(Precision.FP16, Dialect.FLOAT))
    assert relative_error(run(half, X), expected) < 1e-2
    made = tmp_path / "lowered.onnx"
    made.write_bytes(onnx_bytes(optimized))
    runtime = get_target(target)
    engine = tmp_path / ("engine.onnx" if target == "ort-cpu" else "engine.xml")
    built = runtime.build(made, Precision.FP32, engine, BuildOptions())
    with runtime.open(built.files[0], 1) as session:
        assert relative_error(session.run(X), expected) < 1e-5


def onnx_bytes(graph: object) -> bytes:
    import onnx_ir as ir

    from exporter.graph.files import serialize

    assert isinstance(graph, ir.Model)
    return serialize(graph)


@pytest.mark.parametrize("opset", [21, 22, 23, 24, 25, 26, 27, 28])
def test_a_newer_file_of_usual_operators_is_brought_to_our_opset(
    tmp_path: Path, opset: int
) -> None:
    model = load_onnx(written(tmp_path / "m.onnx", opset, op("Relu")))
    assert model.spec.opset in (OPSET, opset)
    assert model.given is not None
    optimized, _ = optimize(export(model))
    assert relative_error(run(optimized, X), run(model.given, X)) < 1e-6


UNREAD = {
    "Dropout with its mask": helper.make_node("Dropout", ["c"], ["t", "mask"], ratio=0.5),
    "MaxPool with its indices": helper.make_node(
        "MaxPool", ["c"], ["t", "indices"], kernel_shape=[2, 2]
    ),
}


@pytest.mark.parametrize("what", UNREAD)
@pytest.mark.parametrize("opset", [9, 11])
def test_outputs_that_nobody_reads_are_dropped(tmp_path: Path, what: str, opset: int) -> None:
    model = load_onnx(written(tmp_path / "m.onnx", opset, [UNREAD[what]]))
    assert model.graph is not None
    assert model.given is not None
    assert all(len(node.outputs) == 1 for node in model.graph.graph)
    assert relative_error(run(model.graph, X), run(model.given, X)) < 1e-6


def test_a_batchnormalization_that_gives_its_statistics_is_in_training_mode(
    tmp_path: Path,
) -> None:
    parts = ["t", "mean", "var", "saved_mean", "saved_var"]
    node = helper.make_node("BatchNormalization", ["c", "ones", "zeros", "zeros", "ones"], parts)
    with pytest.raises(InputError, match=r"node 't' \(BatchNormalization\) .* in training mode"):
        load_onnx(written(tmp_path / "m.onnx", 9, [node]))


@pytest.mark.parametrize("batch", [-1, 0, "", None, "batch_size", "?", "unk__12", "None", "N:0"])
@pytest.mark.parametrize("of_output", [-1, 0, None, "M"])
def test_a_dynamic_batch_in_any_spelling(
    tmp_path: Path, batch: int | str | None, of_output: int | str | None
) -> None:
    rows = [
        helper.make_node("Shape", ["c"], ["s"]),
        helper.make_node("Reshape", ["c", "s"], ["t"]),
    ]
    path = written(tmp_path / "m.onnx", 13, rows, batch=batch, of_output=of_output)
    model = load_onnx(path)
    assert isinstance(model.spec.input.shape[0], str)
    assert model.spec.output.shape == (model.spec.input.shape[0], 5)
    assert model.given is not None
    optimized, _ = optimize(export(model))
    for count in (1, 2):
        assert relative_error(run(optimized, X[:count]), run(model.given, X[:count])) < 1e-6


@pytest.mark.parametrize("name", ["NET.ONNX", "Net.Onnx", "net.onnx"])
def test_an_ending_in_capitals_is_one(tmp_path: Path, name: str) -> None:
    from exporter.models.sources import define
    from exporter.progress import Silent

    path = written(tmp_path / name, 13, op("Relu"))
    model = define(str(path), progress=Silent())
    assert model.spec.name == name.partition(".")[0]
