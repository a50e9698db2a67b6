"""Networks that only this suite needs, as factories (`benchmarks.networks:projected34`)."""

from __future__ import annotations

from torch import nn

from exporter.models.resnet import BasicBlock, Bottleneck, ResNet
from exporter.models.variants import build_variant


def projected34() -> nn.Module:
    """ResNet-34 with the shortcuts of its three projection blocks alone.

    Between plain34 (no shortcut) and resnet34 (all 16): it has every convolution of resnet34, and
    lacks nothing but the 13 sums with an identity.
    """
    network = build_variant("resnet34")
    for block in network.modules():
        if isinstance(block, BasicBlock) and block.downsample is None:
            block.residual = False
    return network


def resnet26d() -> nn.Module:
    """ResNet-26-D, node for node timm's `resnet26d`: a stem of three 3x3 convolutions, and an
    average pool before each strided shortcut's 1x1 (He et al. 2018, arXiv 1812.01187).
    """
    network = ResNet(Bottleneck, (2, 2, 2, 2))
    stem = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
    )
    network.add_module("conv1", stem)
    for block in network.modules():
        if isinstance(block, Bottleneck) and block.downsample is not None:
            projection, norm = block.downsample
            assert isinstance(projection, nn.Conv2d)
            pool: nn.Module = nn.Identity()
            if projection.stride != (1, 1):
                pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
                projection.stride = (1, 1)
            block.downsample = nn.Sequential(pool, projection, norm)
    return network
