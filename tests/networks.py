"""Small networks of several outputs or inputs, with seeded weights that have seen data."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE = 16
CLASSES = 5


class Block(nn.Module):
    """A residual block with a projection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Conv2d(inputs, outputs, 1, 2)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        summed: Tensor = self.relu(y + self.downsample(x))
        return summed


class Trunk(nn.Module):
    """(N, 3, S, S) -> a feature map of each stage, as a feature extractor answers them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU())
        self.layer1 = Block(8, 16)
        self.layer2 = Block(16, 32)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.layer1(self.stem(x))
        return [fine, self.layer2(fine)]


class Pyramid(nn.Module):
    """A feature pyramid: lateral convolutions, and a sum from the coarse level down."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.lateral = nn.ModuleList([nn.Conv2d(channels, 8, 1) for channels in (16, 32)])
        self.smooth = nn.ModuleList([nn.Conv2d(8, 8, 3, 1, 1) for _ in range(2)])

    def forward(self, x: Tensor) -> Mapping[str, Tensor]:
        fine, coarse = (
            lateral(features) for lateral, features in zip(self.lateral, self.trunk(x), strict=True)
        )
        fine = fine + functional.interpolate(coarse, scale_factor=2, mode="nearest")
        return OrderedDict(p2=self.smooth[0](fine), p3=self.smooth[1](coarse))


@dataclass
class Described:
    """What an embedder answers; `aux` is there in training alone."""

    embedding: Tensor
    logits: Tensor
    aux: Tensor | None = None


class Embedder(nn.Module):
    """The scores of classes, and the embedding that they are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.fc = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Described:
        embedding = self.trunk(x)[-1].mean((2, 3))
        return Described(embedding, self.fc(embedding))


class Auxiliary(nn.Module):
    """Two heads: one behind the network, one beside its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Linear(32, CLASSES)
        self.side = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine, coarse = self.trunk(x)
        return self.head(coarse.mean((2, 3))), self.side(fine.mean((2, 3)))


class Siamese(nn.Module):
    """Whether two pictures go together: one tower that is run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Linear(64, 2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        ends = [self.trunk(side)[-1].mean((2, 3)) for side in (left, right)]
        answer: Tensor = self.head(torch.cat(ends, 1))
        return answer


class RgbDepth(nn.Module):
    """A picture, a depth map of half its side, and a vector; an optional mask is left out."""

    SHAPES: ClassVar = {"rgb": (3, 2 * SIZE, 2 * SIZE), "depth": (1, SIZE, SIZE), "about": (6,)}

    def __init__(self) -> None:
        super().__init__()
        self.rgb = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.depth = nn.Conv2d(1, 8, 3, 1, 1)
        self.layer1 = Block(8, 16)
        self.about = nn.Linear(6, 16)
        self.fc = nn.Linear(16, CLASSES)

    def forward(
        self, rgb: Tensor, depth: Tensor, about: Tensor, mask: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        both = self.rgb(rgb) + self.depth(depth).relu()
        if mask is not None:
            both = both * mask
        embedding = self.layer1(both).mean((2, 3))
        return {"embedding": embedding, "logits": self.fc(embedding + self.about(about).relu())}


def seasoned(
    module: nn.Module, size: int = SIZE, shapes: Sequence[tuple[int, ...]] = ()
) -> nn.Module:
    """The module with weights that keep the scale, and statistics of a few batches."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
    module.train()
    with torch.no_grad():
        for _ in range(3):
            module(*(torch.randn(8, *shape) for shape in shapes or [(3, size, size)]))
    return module.eval()
