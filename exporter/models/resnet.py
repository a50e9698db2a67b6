"""ResNets as He et al. (2015) describe them, in the form that torchvision made standard.

The stride of a Bottleneck is on its 3x3 convolution ("v1.5"); parameter names and shapes are
torchvision's, so that its checkpoints load. The CIFAR form (section 4.2 of the paper) has a 3x3
stem and three stages; its shortcuts are projections (option B). Without `residual` the same
convolutions stand in a row: no shortcut, no sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def conv3x3(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, groups=groups, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: (B, inputs, H, W) -> (B, planes, H / stride, W / stride)."""

    expansion = 1

    def __init__(
        self, inputs: int, planes: int, stride: int, groups: int, width: int, residual: bool
    ) -> None:
        super().__init__()
        if (groups, width) != (1, 64):
            raise ValueError("a BasicBlock has neither groups nor another width")
        self.conv1 = conv3x3(inputs, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.residual = residual
        self.downsample = projection(inputs, planes, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))
        out: Tensor = self.relu(y)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1: (B, inputs, H, W) -> (B, 4 planes, H / stride, W / stride)."""

    expansion = 4

    def __init__(
        self, inputs: int, planes: int, stride: int, groups: int, width: int, residual: bool
    ) -> None:
        super().__init__()
        inner = planes * width // 64 * groups
        outputs = planes * self.expansion
        self.conv1 = conv1x1(inputs, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride, groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.residual = residual
        self.downsample = projection(inputs, outputs, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))
        out: Tensor = self.relu(y)
        return out


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The shortcut where the shape changes; None: the identity will do."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """(B, C, H, W) -> (B, num_classes): stem, three or four stages, mean, one linear layer."""

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        layers: Sequence[int],
        *,
        num_classes: int = 1000,
        channels: int = 3,
        groups: int = 1,
        width: int = 64,
        cifar: bool = False,
        residual: bool = True,
    ) -> None:
        super().__init__()
        planes = 16 if cifar else 64
        self.conv1 = (
            conv3x3(channels, planes)
            if cifar
            else nn.Conv2d(channels, planes, 7, 2, padding=3, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, padding=1)
        inputs = planes
        self.stages = len(layers)
        for index, depth in enumerate(layers):
            stage = nn.Sequential()
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                stage.append(block(inputs, planes, stride, groups, width, residual))
                inputs = planes * block.expansion
            setattr(self, f"layer{index + 1}", stage)
            planes *= 2
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for index in range(self.stages):
            x = getattr(self, f"layer{index + 1}")(x)
        x = torch.flatten(self.avgpool(x), 1)
        out: Tensor = self.fc(x)
        return out
