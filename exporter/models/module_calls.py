"""What each part of a module answers while the whole runs once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module that answered a tensor."""

    path: str
    """"" for the whole."""
    part: nn.Module
    output: Tensor
    """As it was then: whoever reads it next may change it in place."""


def module_calls(module: nn.Module, images: Sequence[Tensor]) -> list[ModuleCall]:
    """The calls of all modules in order, children before parents, while `images` go in.

    They are (N, ...) of each input.
    """
    calls: list[ModuleCall] = []
    hooks = [
        part.register_forward_hook(
            lambda part, _inputs, output, path=path: (
                calls.append(ModuleCall(path, part, output.clone()))
                if isinstance(output, Tensor)
                else None
            )
        )
        for path, part in module.named_modules()
    ]
    try:
        with torch.inference_mode():
            module(*(one.clone() for one in images))  # a forward may change its input
    finally:
        for hook in hooks:
            hook.remove()
    return calls
