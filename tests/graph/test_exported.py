"""Modules that PyTorch exports with other numbers: said at export, with the layer's name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from exporter.errors import BuildError
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from tests.modules import model_of, resnet


class Stem(nn.Module):
    """A layer between two convolutions."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = nn.Sequential(nn.ReLU(), layer)
        self.last = nn.Conv2d(4, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.middle(self.first(x))).mean((2, 3))
        return out


class Frozen(nn.Module):
    """Stands for any layer whose export is another function: tracing sees the other branch."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor if torch.compiler.is_exporting() else x


class Pool(nn.Module):
    """A pool that is called as a function; those that are modules are written out (see there)."""

    def __init__(self, kernel: int, stride: int, padding: int, divisor: int) -> None:
        super().__init__()
        self.settings = kernel, stride, padding, divisor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel, stride, padding, divisor = self.settings
        return nn.functional.avg_pool2d(x, kernel, stride, padding, divisor_override=divisor)


@pytest.mark.parametrize(
    "layer",
    [
        Pool(3, 2, 1, divisor=5),
        Pool(2, 2, 0, divisor=3),
        Frozen(1.01),
        Frozen(-1.0),
    ],
    ids=["padded pool", "pool", "a hundredth", "another sign"],
)
def test_a_layer_that_is_exported_as_another_is_named(layer: nn.Module) -> None:
    torch.manual_seed(0)
    model = model_of(Stem(layer), size=9, classes=5)
    with pytest.raises(BuildError) as caught:
        optimize(export(model), model.module)
    message = str(caught.value)
    assert message.startswith("PyTorch's exporter changes the numbers of Stem (relative difference")
    assert f"first in middle.1 ({type(layer).__name__})" in message
    assert "\n" not in message


def test_a_layer_before_it_that_is_changed_in_place_is_not_blamed() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), Frozen(1.01))
    model = model_of(Stem(layer), size=9, classes=5)
    with pytest.raises(BuildError, match=r"first in middle.1.2 \(Frozen\)"):
        optimize(export(model), model.module)


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(2),
        nn.GELU(approximate="tanh"),
        nn.Upsample(scale_factor=2, mode="bicubic"),
        nn.Hardswish(),
        nn.InstanceNorm2d(4),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_that_is_exported_as_it_is_passes(layer: nn.Module) -> None:
    torch.manual_seed(0)
    model = model_of(Stem(layer), size=8, classes=5)
    optimized, _ = optimize(export(model), model.module)
    assert len(optimized.graph)


def test_a_forward_that_changes_its_input_is_compared_on_the_same_images() -> None:
    class Scaled(Stem):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.mul_(2).sub_(0.5))

    torch.manual_seed(0)
    model = model_of(Scaled(nn.ReLU()), size=8, classes=5)
    optimize(export(model), model.module)


def test_a_deep_network_with_random_statistics_passes() -> None:
    model = resnet("plain56", size=32)
    optimize(export(model), model.module)
