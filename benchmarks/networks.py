"""Networks that only this suite needs, as factories (`benchmarks.networks:projected34`)."""

from __future__ import annotations

from torch import nn

from exporter.models.resnet import BasicBlock
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
