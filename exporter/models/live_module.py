"""A module that the program itself holds.

Everything is done to a copy on the CPU, in eval mode and float32: mode, device, gradients, hooks
and statistics of the module that was given stay as they are.

Hooks that only look on (they keep activations, say) would be called thousands of times and traced,
so the copy has none, unless it then answers differently: hooks that change the answer belong to the
network.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch
from torch import nn

from exporter.artifact import Model, ModelKind, Pixels, Skipped
from exporter.errors import InputError, UsageError
from exporter.models.describe import describe, one_line
from exporter.models.input_shapes import Shape, Shapes, given_shapes
from exporter.models.inputs import (
    Tensors,
    copied,
    positional_names,
    random_tensors,
    shapes_of_examples,
    taken_shapes,
)
from exporter.models.modules import with_weights
from exporter.models.names import model_name
from exporter.models.outputs import outputs_of
from exporter.models.usable_module import (
    copied_module,
    is_foldable,
    program_module,
    settle,
    unwrapped,
    why_unusable,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Example = torch.Tensor | npt.NDArray[np.floating]
    Examples = Example | Mapping[str, Example] | Sequence[Example]

_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class LiveModule:
    """A module, and what it takes."""

    module: nn.Module
    shapes: Shapes
    """Of its inputs, all float32."""


def as_module(given: object) -> nn.Module:
    """What was given, which must be a module, or a program of torch.export.

    Raises:
        UsageError: it is neither.
        InputError: it is a program for one size of batch.
    """
    if isinstance(given, torch.export.ExportedProgram):
        return program_module(given, "the program")
    if isinstance(given, nn.Module):
        return given
    if isinstance(given, type):
        what, hint = f"the class {given.__name__}", f"; give what {given.__name__}() makes"
    else:
        what, hint = f"of type {type(given).__name__}", ""
    raise UsageError(f"the model is {what}, expected a name, a path or a torch.nn.Module{hint}")


def input_shapes(
    module: nn.Module,
    example: Examples | None = None,
    image_size: Pixels | None = None,
    inputs: tuple[str, ...] = (),
) -> Shapes:
    """What a module takes, by an example of each input, or by a size and shapes (`--input`).

    An example is (N, ...), and its values do not matter; several are a mapping by the names of
    forward's parameters, or a tuple in their order.

    Raises:
        UsageError: both are given or neither is, or an example is none.
        InputError: the module's forward cannot be called by position alone.
    """
    said = image_size is not None or bool(inputs)
    if (example is None) != said:
        raise UsageError(
            "a module does not say what it takes: give either example=torch.zeros(1, 3, 224, 224) "
            "or image_size=224"
        )
    taking = unwrapped(module)
    name = type(taking).__name__
    if example is None:
        return taken_shapes(taking, name, image_size, given_shapes(inputs))
    if not isinstance(example, Mapping):
        listed: Sequence[object] = example if isinstance(example, list | tuple) else [example]
        named = dict(zip(positional_names(taking, name, len(listed)), listed, strict=True))
    else:
        named = dict(example)
    several = len(named) > 1
    shapes = {key: _shape(one, several=several) for key, one in named.items()}
    return shapes_of_examples(taking, name, shapes)


def _shape(example: object, *, several: bool = False) -> Shape:
    dtype = str(getattr(example, "dtype", type(example).__name__)).removeprefix("torch.")
    shape = tuple(int(size) for size in getattr(example, "shape", ()))
    ranks = (2, 4) if several else (4,)
    if len(shape) not in ranks or min(shape) < 1 or "float" not in dtype:
        raise UsageError(
            f"example is {dtype} of shape {shape}, expected floats of (N, C, H, W), as in "
            f"torch.zeros(1, 3, 224, 224){', or (N, K) of a vector' if several else ''}"
        )
    return shape[1:]


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
    module, notes = _copied(given, name, live.shapes)
    contract = Skipped("a module does not say how images become its input")
    loaded = with_weights(module, name, weights_name, contract, live.shapes, seed)
    if weights_name == "auto":
        loaded = replace(loaded, info=replace(loaded.info, source="as the program held them"))
    loaded = replace(loaded, notes=(*notes, *loaded.notes))
    named = model_name(name)
    return describe(loaded, name=named, source=name, kind=ModelKind.LIVE, shapes=live.shapes)


def _copied(module: nn.Module, name: str, shapes: Shapes) -> tuple[nn.Module, tuple[str, ...]]:
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
        example = random_tensors(shapes, 1)
        answer = _answer(whole, example)
        without = _answer(copied, example)
        if answer is not None and not (without is not None and _same(answer, without)):
            copied = whole
    return copied, notes


def _copy(module: nn.Module, memo: dict[int, object], problem: str) -> nn.Module:
    try:
        return copied_module(module, memo).cpu()
    except Exception as error:  # somebody else's attributes may raise anything
        raise InputError(
            f"{problem} ({one_line(error)}); give a module that copy.deepcopy takes"
        ) from None


def _answer(module: nn.Module, example: Tensors) -> dict[str, torch.Tensor] | None:
    try:
        with torch.inference_mode():
            return outputs_of(module(*copied(example)))
    except Exception:  # `describe` runs it again and says what is wrong
        return None


def _same(answer: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return answer.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in answer.items()
    )
