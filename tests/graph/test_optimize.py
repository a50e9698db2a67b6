"""All passes on real networks: counts, names, numbers, and the given graph untouched."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx_ir.passes import common
from torch import nn

from exporter.artifact import Dialect, Model, PassReport, Precision
from exporter.errors import BuildError
from exporter.graph.files import check, serialize
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.passes.blocks import GraphFacts, find_residual_blocks
from exporter.prove.unfusable import unfusable
from tests.graphs import graph, operators, random, relative_error, run
from tests.modules import model_of, resnet

TOLERANCE = 1e-6  # against float64; PyTorch's float32 itself is at 2e-7 to 4e-7 on these networks


class Fixture:
    """A network, its graphs, and its float64 answer."""

    def __init__(self, model: Model, size: int) -> None:
        assert model.module is not None
        self.exported = export(model)
        self.before = serialize(self.exported)
        self.optimized, self.reports = optimize(self.exported)
        self.x = random(2, 3, size, size, seed=1)
        with torch.inference_mode():
            module = model.module.double()
            self.exact = module(torch.from_numpy(self.x).double()).numpy()

    def report(self, name: str) -> PassReport:
        return next(report for report in self.reports if report.name == name)


@pytest.fixture(scope="module")
def resnet50() -> Fixture:
    return Fixture(resnet("resnet50", size=64), 64)


@pytest.fixture(scope="module")
def plain20() -> Fixture:
    return Fixture(resnet("plain20", size=32), 32)


def test_all_normalizations_of_resnet50_fold(resnet50: Fixture) -> None:
    report = resnet50.report("fold_batchnorm")
    assert (report.fired, report.refused) == (53, ())
    assert Counter(operators(resnet50.optimized)) == {
        "Conv": 53, "Relu": 49, "Add": 16, "MaxPool": 1,
        "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1,
    }  # fmt: skip
    assert relative_error(run(resnet50.optimized, resnet50.x), resnet50.exact) < TOLERANCE


def test_names_of_resnet50(resnet50: Fixture) -> None:
    blocks = find_residual_blocks(resnet50.optimized)
    layers = enumerate((3, 4, 6, 3), start=1)
    assert [block.name for block in blocks] == [
        f"layer{layer}.{index}" for layer, depth in layers for index in range(depth)
    ]
    projections = [block.name for block in blocks if block.shortcut == "projection"]
    assert projections == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    third = blocks[3]
    assert third.add == "layer2.0.add"
    assert third.output == "layer2.0.relu_2"
    assert set(third.nodes) == {
        "layer2.0.conv1", "layer2.0.relu", "layer2.0.conv2", "layer2.0.relu_1", "layer2.0.conv3",
        "layer2.0.downsample.0", "layer2.0.add", "layer2.0.relu_2",
    }  # fmt: skip
    names = [name for block in blocks for name in block.nodes]
    assert len(names) == len(set(names))
    assert set(resnet50.optimized.graph.initializers) == {
        f"{node.name}.{role}"
        for node in resnet50.optimized.graph
        if node.op_type in ("Conv", "Gemm")
        for role in ("weight", "bias")
    }
    facts = GraphFacts.of(resnet50.optimized, resnet50.reports, blocks)
    assert (facts.convs, facts.batchnorms_folded, facts.blocks) == (53, 53, blocks)
    assert unfusable(facts) == {}


def test_the_given_graph_is_not_touched(resnet50: Fixture) -> None:
    assert serialize(resnet50.exported) == resnet50.before


def test_optimizing_again_changes_nothing(resnet50: Fixture) -> None:
    again, reports = optimize(resnet50.optimized)
    assert [report.name for report in reports if report.fired] == []
    assert serialize(again) == serialize(resnet50.optimized)


def test_the_residual_fused_graph_of_resnet50(resnet50: Fixture) -> None:
    before = serialize(resnet50.optimized)
    fused, (report,) = lower(resnet50.optimized, Lowering(Precision.FP32, Dialect.FLOAT_FUSED))
    assert Counter(operators(fused)) == {
        "FusedConv": 49, "Conv": 4, "MaxPool": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1,
    }  # fmt: skip
    assert (report.fired, report.refused) == (49, ())
    with_z = [node for node in fused.graph if len(node.inputs) == 4]
    assert [node.name for node in with_z] == [
        f"layer{layer}.{index}.conv3"
        for layer, depth in enumerate((3, 4, 6, 3), start=1)
        for index in range(depth)
    ]
    plain = [node.name for node in fused.graph if node.op_type == "Conv"]
    assert plain == [f"layer{layer}.0.downsample.0" for layer in (1, 2, 3, 4)]
    assert relative_error(run(fused, resnet50.x), resnet50.exact) < TOLERANCE
    assert serialize(resnet50.optimized) == before


def test_fp16_of_resnet50(resnet50: Fixture) -> None:
    half, (report,) = lower(resnet50.optimized, Lowering(Precision.FP16, Dialect.FLOAT))
    assert (report.fired, report.refused) == (122, ())
    assert report.counts["weights overflowed to infinity"] == 0
    assert operators(half).count("Cast") == 2
    error = relative_error(run(half, resnet50.x), resnet50.exact)
    assert 1e-5 < error < 5e-3  # the limit that an FP16 engine has to meet


def test_a_plain_network_has_no_blocks(plain20: Fixture) -> None:
    assert find_residual_blocks(plain20.optimized) == ()
    assert plain20.report("fold_batchnorm").fired == 19
    fused, (report,) = lower(plain20.optimized, Lowering(Precision.FP32, Dialect.FLOAT_FUSED))
    assert report.counts["with a residual sum"] == 0
    assert report.fired == 19
    assert relative_error(run(fused, plain20.x), plain20.exact) < TOLERANCE


class PreActivation(nn.Module):
    """A block of He et al. 2016: only the first normalization's place keeps it from folding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.conv1(torch.relu(self.bn1(x)))
        x = x + self.conv2(torch.relu(self.bn2(y)))
        out: torch.Tensor = self.fc(torch.relu(x).mean((2, 3)))
        return out


def test_a_pre_activation_network_written_in_one_forward() -> None:
    torch.manual_seed(0)
    network = Fixture(model_of(PreActivation(), size=8, classes=10), 8)
    report = network.report("fold_batchnorm")
    assert report.fired == 1
    assert report.refused == (
        ("bn1", "the convolution's output is not its alone: stem has 2 readers"),
    )
    (block,) = find_residual_blocks(network.optimized)
    assert block.name == "block1"
    assert set(block.nodes) == {
        f"block1.{n}" for n in ("bn1", "relu", "conv1", "relu_1", "conv2", "add", "relu_2")
    }
    assert operators(network.optimized)[-3:] == ["GlobalAveragePool", "Flatten", "Gemm"]
    assert relative_error(run(network.optimized, network.x), network.exact) < TOLERANCE


class SharedConvolution(nn.Module):
    """One convolution, called twice, with a normalization of its own after each call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv(x)))
        out: torch.Tensor = self.bn2(self.conv(y)).flatten(1)
        return out


def test_a_module_that_is_called_twice() -> None:
    torch.manual_seed(0)
    module = SharedConvolution()
    for layer in (module.bn1, module.bn2):
        nn.init.uniform_(layer.weight, 0.5, 2)
    network = Fixture(model_of(module, size=8, classes=192), 8)
    assert network.report("fold_batchnorm").fired == 2
    names = [node.name for node in network.optimized.graph if node.op_type == "Conv"]
    assert names == ["conv", "conv_1"]
    assert relative_error(run(network.optimized, network.x), network.exact) < TOLERANCE


def test_an_invalid_graph_is_one_clear_line() -> None:
    model = graph("net (float[N,3,6,6] x) => (float[N,3,6,6] y) { y = Relu (x) }")
    model.graph[0].op_type = "Rlu"
    with pytest.raises(BuildError, match=r"not valid ONNX: .*Rlu") as caught:
        check(model)
    assert "\n" not in str(caught.value)


def test_numbers_survive_the_onnx_text_too() -> None:
    """Every pass at once on a graph that needs them all."""
    model = graph(
        """all (float[N,3,8,8] x) => (float[N,5] y) {
            i = Identity (x)
            c = Conv <pads=[1,1,1,1]> (i, w)
            n = BatchNormalization (c, g, h, m, v)
            r = Relu (n)
            d = Conv <pads=[1,1,1,1]> (r, k)
            s = Sum (d, r)
            t = Relu (s)
            a = ReduceMean <keepdims=0> (t, axes)
            p = MatMul (a, q)
            y = Add (p, b)
        }""",
        w=random(4, 3, 3, 3),
        k=random(4, 4, 3, 3, seed=1),
        **{n: random(4, seed=i, low=0.5) for i, n in enumerate("ghmv")},
        axes=np.array([2, 3]),
        q=random(4, 5, seed=3),
        b=random(5, seed=4),
    )
    x = random(3, 3, 8, 8, seed=9)
    optimized, _ = optimize(model)
    assert operators(optimized) == [
        "Conv", "Relu", "Conv", "Add", "Relu", "GlobalAveragePool", "Flatten", "Gemm",
    ]  # fmt: skip
    common.CheckerPass(full_check=True)(optimized)
    assert relative_error(run(optimized, x), run(model, x)) < TOLERANCE
    assert isinstance(optimized, ir.Model)
