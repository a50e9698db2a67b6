"""A network that writes down which node of a cluster built it, and when."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch
from torch import nn

FOLDER = "SWEEP_WITNESSES"
"""The environment's variable with the folder to write to."""


class Net(nn.Module):
    """(N, 3, 16, 16) -> (N, 5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.fc = nn.Linear(channels, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))  # type: ignore[no-any-return]


def thin() -> nn.Module:
    return _net("thin", 4)


def wide() -> nn.Module:
    return _net("wide", 8)


def _net(name: str, channels: int) -> nn.Module:
    import ray

    told = {"node": ray.get_runtime_context().get_node_id(), "model": name, "at": time.time()}
    Path(os.environ[FOLDER], f"{time.time_ns()}.json").write_text(json.dumps(told))
    torch.manual_seed(0)
    return Net(channels)
