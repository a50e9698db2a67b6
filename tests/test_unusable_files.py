"""Checkpoints and ONNX files that cannot be used: one line on the command line, nothing written."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from exporter.models.variants import build_variant
from tests.test_cli import check_refused


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_unusable_checkpoints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, out: Path
) -> None:
    state = build_variant("resnet20", 7).state_dict()
    torch.save(state, tmp_path / "seven.pth")
    (tmp_path / "corrupt.pth").write_bytes(b"not a checkpoint at all")
    whole = (tmp_path / "seven.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"x": subprocess.Popen}))

    def refuse(message: str, weights: str, *more: str) -> None:
        path = tmp_path / weights
        check_refused(capsys, message, "export", "resnet20", "--weights", path, "--out", out, *more)
        assert not out.exists()

    refuse("no such file", "absent.pth")
    refuse("corrupt.pth", "corrupt.pth")
    refuse("cut.pth is truncated or not a checkpoint", "cut.pth")
    refuse("evil.pth", "evil.pth")
    refuse(
        "has 7 classes (fc.weight), --num-classes asks for 10", "seven.pth", "--num-classes", "10"
    )
    torch.save(build_variant("resnet32").state_dict(), tmp_path / "deeper.pth")
    refuse("unexpected: layer1.3.conv1.weight", "deeper.pth")


def small_graph(path: Path, *, cycle: bool = False, op: str = "Relu", external: str = "") -> Path:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3, 3, 3], [0.1] * 108)
    if external:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=external)
    source = "y" if cycle else "x"
    nodes = [
        helper.make_node("Conv", [source, "w"], ["c"], "conv"),
        helper.make_node(op, ["c"], ["y"], "act"),
        helper.make_node("GlobalAveragePool", ["y"], ["p"], "pool"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 4, 1, 1])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    path.write_bytes(model.SerializeToString())
    return path


def test_unusable_onnx_files(capsys: pytest.CaptureFixture[str], tmp_path: Path, out: Path) -> None:
    def refuse(message: str, path: Path) -> None:
        check_refused(capsys, message, "export", path, "--out", out)
        assert not out.exists()

    (tmp_path / "secret.bin").write_bytes(b"\0" * 432)
    folder = tmp_path / "models"
    folder.mkdir()
    refuse("no such file", folder / "absent.onnx")
    refuse("cycle", small_graph(folder / "cycle.onnx", cycle=True))
    refuse("missing.bin", small_graph(folder / "missing.onnx", external="missing.bin"))
    refuse("../secret.bin", small_graph(folder / "escape.onnx", external="../secret.bin"))
    refuse("NoSuchOperator", small_graph(folder / "unknown.onnx", op="NoSuchOperator"))
    whole = onnx.load(small_graph(folder / "whole.onnx")).SerializeToString()
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    refuse("cut.onnx", folder / "cut.onnx")
