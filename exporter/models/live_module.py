"""A module that the program itself holds.

Everything is done to a copy on the CPU, in eval mode and float32: mode, device, gradients, hooks
and statistics of the module that was given stay as they are.

Hooks that only look on (they keep activations, say) would be called thousands of times and traced,
so the copy has none, unless it then answers differently: hooks that change the answer belong to the
network.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch
from torch import nn

from exporter.artifact import Model, ModelKind, Pixels, Skipped
from exporter.errors import InputError, UsageError
from exporter.models.describe import SEVERAL_INPUTS, describe, one_line
from exporter.models.modules import with_weights
from exporter.models.names import height_width, model_name
from exporter.models.outputs import outputs_of
from exporter.models.usable_module import is_foldable, settle, unwrapped, why_unusable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Example = torch.Tensor | npt.NDArray[np.floating]

_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class LiveModule:
    """A module, and what it takes."""

    module: nn.Module
    shape: tuple[int, int, int]
    """(C, H, W) of one float32 input."""


def as_module(given: object) -> nn.Module:
    """What was given, which must be a module.

    Raises:
        UsageError: it is none.
    """
    if isinstance(given, nn.Module):
        return given
    if isinstance(given, type):
        what, hint = f"the class {given.__name__}", f"; give what {given.__name__}() makes"
    else:
        what, hint = f"of type {type(given).__name__}", ""
    raise UsageError(f"the model is {what}, expected a name, a path or a torch.nn.Module{hint}")


def input_shape(
    example: Example | None, image_size: Pixels | None, channels: int = 3
) -> tuple[int, int, int]:
    """(C, H, W) of an example (N, C, H, W), whose values do not matter, or of size and channels.

    Raises:
        UsageError: not exactly one of the two is given, or the example is none.
    """
    if (example is None) == (image_size is None):
        raise UsageError(
            "a module does not say what it takes: give either example=torch.zeros(1, 3, 224, 224) "
            "or image_size=224"
        )
    if image_size is not None:
        return channels, *height_width(image_size)
    if isinstance(example, tuple | list | dict):
        raise UsageError(
            f"example is a {type(example).__name__}, and one image tensor is accepted; of a "
            f"network of several inputs, {SEVERAL_INPUTS}"
        )
    dtype = str(getattr(example, "dtype", type(example).__name__)).removeprefix("torch.")
    shape = tuple(int(size) for size in getattr(example, "shape", ()))
    if len(shape) != 4 or min(shape) < 1 or "float" not in dtype:
        raise UsageError(
            f"example is {dtype} of shape {shape}, expected floats of (N, C, H, W), as in "
            "torch.zeros(1, 3, 224, 224)"
        )
    return shape[1], shape[2], shape[3]


def from_module(live: LiveModule, weights_name: str, seed: int) -> Model:
    """A copy of the module with its own weights (`auto`), random ones, or a checkpoint's.

    Raises:
        InputError: it cannot be copied, or does not take such inputs.
    """
    given = unwrapped(live.module)
    name = type(given).__name__
    why = why_unusable(given)
    if why is not None:
        raise InputError(f"{name} {why}")
    module, notes = _copied(given, name, live.shape)
    contract = Skipped("a module does not say how images become its input")
    loaded = with_weights(module, name, weights_name, contract, live.shape, seed)
    if weights_name == "auto":
        loaded = replace(loaded, info=replace(loaded.info, source="as the program held them"))
    loaded = replace(loaded, notes=(*notes, *loaded.notes))
    return describe(
        loaded, name=model_name(name), source=name, kind=ModelKind.LIVE, shape=live.shape
    )


def _copied(
    module: nn.Module, name: str, shape: tuple[int, int, int]
) -> tuple[nn.Module, tuple[str, ...]]:
    """The copy, and what the user must know of it."""
    hooks = {
        id(found): OrderedDict[int, object]()
        for part in module.modules()
        for found in (getattr(part, attribute, None) for attribute in _HOOKS)
        if found and not any(map(is_foldable, found.values()))
    }
    # A deep copy takes what its memo has for an object instead of copying that.
    copied = _copy(module, dict(hooks), f"{name} cannot be copied")
    notes = settle(copied, name)
    if hooks:
        whole = _copy(module, {}, f"{name} cannot be copied with its hooks, remove them")
        settle(whole, name)
        example = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        answer = _answer(whole, example)
        without = _answer(copied, example)
        if answer is not None and not (without is not None and _same(answer, without)):
            copied = whole
    return copied, notes


def _copy(module: nn.Module, memo: dict[int, object], problem: str) -> nn.Module:
    try:
        return copy.deepcopy(module, memo).cpu()
    except Exception as error:  # somebody else's attributes may raise anything
        raise InputError(
            f"{problem} ({one_line(error)}); give a module that copy.deepcopy takes"
        ) from None


def _answer(module: nn.Module, example: torch.Tensor) -> dict[str, torch.Tensor] | None:
    try:
        with torch.inference_mode():
            return outputs_of(module(example.clone()))  # a forward may change its input
    except Exception:  # `describe` runs it again and says what is wrong
        return None


def _same(answer: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return answer.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in answer.items()
    )
