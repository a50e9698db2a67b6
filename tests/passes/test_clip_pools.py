"""A window of a pool that would begin in the padding is left out, as PyTorch and ONNX do."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import exporter
from exporter.models.onnx_file import load_onnx
from exporter.passes.clip_pools import clip_pools
from exporter.passes.values import dims
from tests.foreign import write
from tests.graphs import graph_of_opset, random, relative_error, run
from tests.independent import RIGHT, judged, of_file, of_module

DROPPED = "kernel_shape=[2, 1], strides=[2, 2], pads=[1, 0, 1, 0], ceil_mode=1"
"""On 12 x 8: seven windows down, and across a fifth that would begin at 8."""


def pooled(kind: str, options: str, size: tuple[int, int] = (12, 8)) -> ir.Model:
    x = "float[N,3,{},{}] x".format(*size)
    return graph_of_opset(20, f"pool ({x}) => (float[N,3,A,B] y) {{ y = {kind} <{options}> (x) }}")


@pytest.mark.parametrize(
    ("kind", "size", "options"),
    [
        ("MaxPool", (12, 8), DROPPED),
        ("AveragePool", (12, 8), DROPPED),
        ("AveragePool", (12, 8), f"{DROPPED}, count_include_pad=1"),
        ("MaxPool", (8, 12), "kernel_shape=[3, 2], strides=[3, 1], pads=[1, 1, 1, 1], ceil_mode=1"),
        ("MaxPool", (8, 12), "kernel_shape=[1, 1], strides=[3, 5], pads=[0, 0, 0, 0], ceil_mode=1"),
        (
            "MaxPool",
            (11, 8),
            "kernel_shape=[2, 2], strides=[3, 3], dilations=[2, 1], pads=[1, 1, 1, 1], ceil_mode=1",
        ),
    ],
)
def test_a_window_in_the_padding_goes(kind: str, size: tuple[int, int], options: str) -> None:
    model = pooled(kind, options, size)
    x = random(2, 3, *size)
    before = run(model, x)
    assert clip_pools(model).fired == 1
    assert dims(model.graph.outputs[0]) == ("N", *before.shape[1:])
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
    shape = inferred.graph.output[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim[1:]] == [*before.shape[1:]]
    assert relative_error(run(model, x), before) < 1e-6
    assert clip_pools(model).fired == 0


@pytest.mark.parametrize(
    "options",
    [
        "kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1",
        DROPPED.replace("ceil_mode=1", "ceil_mode=0"),
        DROPPED.replace("pads=[1, 0, 1, 0]", 'auto_pad="SAME_UPPER"'),
    ],
)
def test_a_pool_without_one_stays(options: str) -> None:
    model = pooled("MaxPool", options, (13, 9))
    assert clip_pools(model).fired == 0


def test_an_average_that_counts_a_cut_padding_stays() -> None:
    """Its last window down is divided by what lies inside the padding."""
    options = "kernel_shape=[3, 1], strides=[2, 2], pads=[0, 0, 0, 0], ceil_mode=1"
    assert clip_pools(pooled("AveragePool", options)).fired == 1
    assert clip_pools(pooled("AveragePool", f"{options}, count_include_pad=1")).fired == 0


@pytest.mark.parametrize("opset", [12, 20])
def test_sizes_behind_such_a_pool_are_the_runtimes(tmp_path: Path, opset: int) -> None:
    """A pool over all of what onnx takes for the picture is none over all of it."""
    text = (
        "net (float[N,3,12,8] x) => (float[N,3,A,B] y) { "
        f"p = MaxPool <{DROPPED}> (x) q = Relu (p) y = AveragePool <kernel_shape=[7, 4]> (q) }}"
    )
    path = write(tmp_path, ir.to_proto(graph_of_opset(opset, text)))
    model = load_onnx(path)
    assert model.spec.output.shape == ("N", 3, 1, 1)
    assert model.graph is not None
    x = random(3, 3, 12, 8)
    assert relative_error(run(model.graph, x), run(path.read_bytes(), x)) < 1e-6


def test_both_runtimes_answer_as_the_file_does(tmp_path: Path) -> None:
    """OpenVINO computed the window: minus infinity."""
    text = (
        "net (float[N,3,12,8] x) => (float[N,4] y) { p = MaxPool <" + DROPPED + "> (x) "
        "c = Conv (p, w) g = GlobalAveragePool (c) y = Flatten (g) }"
    )
    proto = ir.to_proto(graph_of_opset(20, text, w=random(4, 3, 1, 1)))
    path = write(tmp_path, proto)
    build = exporter.export(
        path, out=tmp_path / "build", targets=["ort-cpu", "openvino"], precisions=["fp32"],
        samples=8, measure=False,
    )  # fmt: skip
    assert set(judged(build, of_file(proto)).values()) == {RIGHT}


class Halved(nn.Module):
    """Two pools that leave such windows out, and a pool over all of the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool2d((2, 1), 2, (1, 0), ceil_mode=True)
        self.thin = nn.MaxPool2d(1, 2, ceil_mode=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.thin(self.pool(self.conv(x)))
        return nn.functional.avg_pool2d(x, x.shape[2:]).flatten(1)


def test_a_module_with_such_pools_is_built(tmp_path: Path) -> None:
    """Its graph was refused: onnx infers other shapes than PyTorch gives it."""
    torch.manual_seed(0)
    network = Halved()
    build = exporter.export(
        network, example=torch.zeros(1, 3, 12, 8), out=tmp_path / "build", targets=["ort-cpu"],
        precisions=["fp32"], samples=8, measure=False,
    )  # fmt: skip
    assert set(judged(build, of_module(network)).values()) == {RIGHT}
