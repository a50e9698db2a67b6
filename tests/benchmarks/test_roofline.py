"""Layers read from ONNX Runtime's own profile, of graphs whose arithmetic we know."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

from benchmarks.kernels import write_graph
from benchmarks.roofline import Layer, profile
from exporter.artifact import TensorSpec
from exporter.measure.ceiling_graphs import CHANNELS, CONV_OPS, DEPTH, SIDE

GROUPED = """
    <ir_version: 10, opset_import: ["" : 20]>
    network (float[1,8,10,10] x) => (float[1,16,5,5] y)
        <float[16,4,3,3] w = {%s}> {
        y = Conv<group=2, strides=[2,2], pads=[1,1,1,1]>(x, w)
    }
"""


def test_operations_and_bytes_follow_from_the_shapes(tmp_path: Path) -> None:
    text = GROUPED % ",".join(["0.5"] * (16 * 4 * 9))
    model = onnx.parser.parse_model(text)
    model.graph.node[0].name = "conv"
    onnx.save(model, tmp_path / "conv.onnx")
    given = TensorSpec("x", "float32", ("N", 8, 10, 10))
    (layer,) = profile(tmp_path / "conv.onnx", given, threads=1)
    assert layer.operations == 2 * 16 * 5 * 5 * 4 * 9
    assert layer.moved_bytes == 4 * (8 * 10 * 10 + 16 * 4 * 9 + 16 * 5 * 5)
    assert layer.time_us > 0


def test_a_quantized_convolution_moves_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    given = TensorSpec("x", "uint8", ("N", CHANNELS, SIDE, SIDE))
    layers = profile(write_graph("conv-int8", tmp_path), given, threads=1)
    assert len(layers) == DEPTH
    tensors = 2 * CHANNELS * SIDE**2 + 9 * CHANNELS**2
    for layer in layers:
        assert layer.operations == CONV_OPS / DEPTH
        assert tensors <= layer.moved_bytes < 1.01 * tensors


def test_figures_of_a_layer() -> None:
    layer = Layer("conv", time_us=2.0, operations=6000, moved_bytes=500)
    assert layer.intensity == 12
    assert layer.gops == pytest.approx(3)
