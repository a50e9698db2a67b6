"""Modules with seeded weights, wrapped as the compiler's `Model`."""

from __future__ import annotations

import torch
from torch import nn

from exporter.artifact import Model, ModelKind, ModelSpec, Skipped, TensorSpec, WeightsInfo
from exporter.models.variants import build_variant


def model_of(module: nn.Module, *, size: int, classes: int, name: str = "net") -> Model:
    """A module that takes (N, 3, size, size)."""
    spec = ModelSpec(
        name=name,
        source=name,
        kind=ModelKind.MODULE,
        parameters=0,
        macs=0,
        input=TensorSpec("input", "float32", ("batch", 3, size, size)),
        output=TensorSpec("logits", "float32", ("batch", classes)),
        preprocessing=Skipped("not needed"),
        weights=WeightsInfo("seeded", "", trained=False),
    )
    return Model(spec, module.eval())


def resnet(name: str, *, size: int, classes: int = 10) -> Model:
    """A built-in variant; every BatchNormalization has statistics that matter."""
    torch.manual_seed(0)
    module = build_variant(name, classes)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.uniform_(layer.weight, 0.3, 0.7)
            nn.init.uniform_(layer.bias, -0.1, 0.1)
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model_of(module, size=size, classes=classes, name=name)
