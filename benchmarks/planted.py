"""A network that INT8 hurts, made from the trained digits network: same function, bad ranges.

Between the first convolution of a residual block and its second one, each channel is multiplied by
a factor of its own, and divided again by the second convolution's weights. Behind a ReLU that
changes no answer. But 8 bits have one range for the whole tensor, and in the range of the largest
channel the small ones are rounded away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import torch

BLOCK: Final = "layer2.1"
DECADES: Final = 2.0
"""Factors are from 10 to the minus this to 10 to this, evenly spread over a block's channels."""


def rescaled(
    state: Mapping[str, torch.Tensor],
    block: str = BLOCK,
    *,
    decades: float = DECADES,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """The weights of the same function, with one BasicBlock's inner channels rescaled."""
    import torch

    changed = {name: tensor.clone() for name, tensor in state.items()}
    channels = len(changed[f"{block}.bn1.weight"])
    spread = np.logspace(-decades, decades, channels)
    factors = torch.from_numpy(np.random.default_rng(seed).permutation(spread)).float()
    for name in ("weight", "bias"):
        changed[f"{block}.bn1.{name}"] *= factors
    changed[f"{block}.conv2.weight"] /= factors[None, :, None, None]
    return changed
