"""Residual networks of other families, and what each runtime that runs on a CPU makes of them.

Right engines of all of them pass by default: what the runtime is not known to fuse is counted and
named, and everything else is fused.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import exporter
from exporter.artifact import Verdict
from exporter.commands.build import Build


class Gate(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(planes, 4, 1), nn.Conv2d(4, planes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = nn.functional.relu(self.reduce(nn.functional.adaptive_avg_pool2d(x, 1)))
        return x * torch.sigmoid(self.expand(pooled))


class ChannelGate(nn.Module):
    """Efficient channel attention: one convolution along the channels."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.sigmoid(self.conv(x.mean((2, 3)).unsqueeze(1)))
        return x * weights.reshape(x.shape[0], -1, 1, 1).expand_as(x)


class Frozen(nn.Module):
    """A BatchNormalization that is a Mul and an Add, as in detection's backbones."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(planes) * 0.6 + 0.6)
        self.register_buffer("shift", torch.rand(planes) * 0.4 - 0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale.reshape(1, -1, 1, 1) + self.shift.reshape(1, -1, 1, 1)


class Block(nn.Module):
    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        gate: Callable[[int], nn.Module] | None = None,
        pool: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.norm1, self.act1 = norm(planes), activation()
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.norm2, self.act2 = norm(planes), activation()
        self.gate = gate(planes) if gate else nn.Identity()
        self.down: nn.Module = nn.Identity()
        if stride > 1 and pool:
            pooled = nn.Conv2d(inputs, planes, 1, bias=False)
            self.down = nn.Sequential(
                nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False),
                pooled,
                norm(planes),
            )
        elif stride > 1:
            projected = nn.Conv2d(inputs, planes, 1, stride, bias=False)
            self.down = nn.Sequential(projected, norm(planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        body = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        summed: torch.Tensor = self.gate(body) + self.down(x)
        activated: torch.Tensor = self.act2(summed)
        return activated


class PreActivation(nn.Module):
    def __init__(self, planes: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(planes), nn.Conv2d(planes, planes, 3, 1, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(planes), nn.Conv2d(planes, planes, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.conv1(nn.functional.relu(self.bn1(x)))
        summed: torch.Tensor = self.conv2(nn.functional.relu(self.bn2(first))) + x
        return summed


def network(*blocks: nn.Module, planes: int = 16) -> nn.Module:
    """A stem, the blocks and a head, with statistics that matter."""
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(planes, 7)]
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    module = nn.Sequential(stem, *blocks, *head)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module.eval()


def of_blocks(**family: object) -> nn.Module:
    """An identity shortcut and a projection."""
    return network(Block(8, 8, 1, **family), Block(8, 16, 2, **family))  # type: ignore[arg-type]


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "plain": of_blocks,
    "se": lambda: of_blocks(gate=Gate),
    "eca": lambda: of_blocks(gate=ChannelGate),
    "relu6": lambda: of_blocks(activation=nn.ReLU6),
    "silu": lambda: of_blocks(activation=nn.SiLU),
    "prelu": lambda: of_blocks(activation=nn.PReLU),
    "resnet-d": lambda: of_blocks(pool=True),
    "frozen": lambda: of_blocks(norm=Frozen),
    "group norm": lambda: of_blocks(norm=lambda planes: nn.GroupNorm(4, planes)),
    "pre-activation": lambda: network(
        PreActivation(8), PreActivation(8), nn.BatchNorm2d(8), nn.ReLU(), planes=8
    ),
}

# What each engine leaves in kernels of their own, by a word of the reason; () leaves nothing.
LEFT: dict[str, tuple[str, str, str, str]] = {
    # ort-cpu.fp32, ort-cpu.int8, openvino.fp32, openvino.int8
    "plain": ("", "", "", ""),
    "se": ("Mul", "Mul", "Mul", "Mul"),
    "eca": ("Mul", "Mul", "Mul", "Mul"),
    "relu6": ("Clip", "Clip", "", ""),
    "silu": ("Mul", "Mul", "", "Mul"),
    "prelu": ("PRelu", "PRelu", "", "PRelu"),
    "resnet-d": ("", "", "", "AveragePool"),
    "frozen": ("", "Mul", "", ""),
    "group norm": ("Mul", "InstanceNormalization", "", "InstanceNormalization"),
    "pre-activation": ("BatchNormalization", "BatchNormalization", "BatchNormalization", ""),
}
SUMS_APART = {"se": 1, "eca": 1, "group norm": 2}
"""In float: a sum of which neither branch ends in a convolution."""


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    return exporter.export(
        FAMILIES[request.param](),
        example=torch.zeros(2, 3, 16, 16),
        targets=["ort-cpu", "openvino"],
        precisions=["fp32", "int8"],
        measure=False,
        weights="random",
        samples=16,
        calibration_samples=16,
        threads=1,
        out=tmp_path_factory.mktemp("families") / "build",
    )


def test_right_engines_of_every_family_pass(family: Build) -> None:
    assert not family.failures
    for engine in family.engines:
        receipt = engine.receipt
        assert receipt.verdict is receipt.expected is Verdict.FUSED, (engine.id, receipt.reason)
        assert receipt.float_ops == receipt.float_ops_unfusable, (engine.id, receipt.leftovers)


def test_what_a_runtime_does_not_fuse_is_named(
    family: Build, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["family"]
    for engine, word in zip(family.engines, LEFT[name], strict=True):
        receipt = engine.receipt
        reasons = " ".join(reason for _, _, reason in receipt.leftovers)
        if word:
            assert word in reasons, (engine.id, receipt.leftovers)
        apart = receipt.residual_adds - receipt.residual_adds_fused
        assert apart == receipt.residual_adds_unfusable
        if engine.precision == "fp32":
            assert apart == SUMS_APART.get(name, 0), receipt.blocks
        if name in ("plain", "relu6") and engine.target == "openvino":
            assert receipt.float_ops == 0
