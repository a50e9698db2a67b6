"""A module that takes 8-bit images: what a baked engine is compared with, and timed against."""

from __future__ import annotations

import torch
from torch import nn

from exporter.artifact import Channels, Preprocessing


class FromImages(nn.Module):
    """(N, H, W, C) pixels, 0 to 255 in any type -> what `module` answers to them normalised.

    x = (pixel / 255 - mean) / std, in the type of the module's parameters.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, module: nn.Module, contract: Preprocessing) -> None:
        super().__init__()
        self.module = module
        self._reversed = contract.channels is Channels.BGR
        for name, values in (("mean", contract.mean), ("std", contract.std)):
            exact = torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)
            self.register_buffer(name, exact.to(torch.float32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, H, W, C) -> the module's output."""
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        if self._reversed:
            pixels = pixels.flip(1)
        answer: torch.Tensor = self.module((pixels / 255 - self.mean) / self.std)
        return answer
