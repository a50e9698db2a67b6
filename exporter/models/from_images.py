"""A module that takes 8-bit images: what a baked engine is compared with, and timed against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class FromImages(nn.Module):
    """(N, H, W, 3) pixels, 0 to 255 in any type -> what `module` answers to them normalised.

    x = (pixel / 255 - mean) / std, in the type of the module's parameters.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, module: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.module = module
        for name, values in (("mean", mean), ("std", std)):
            exact = torch.tensor(values, dtype=torch.float64).reshape(1, 3, 1, 1)
            self.register_buffer(name, exact.to(torch.float32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 3) -> the module's output."""
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        answer: torch.Tensor = self.module((pixels / 255 - self.mean) / self.std)
        return answer
