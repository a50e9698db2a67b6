"""What a module takes: its inputs by name, with the shape of one sample of each.

    one         `input`, whatever its forward calls it; (C, H, W)
    several     the parameters that its forward needs, by their names; (C, H, W), or (K,) a vector

What nobody says of a picture: its size is the image size, its channels are those of the first
convolution that takes the input itself, else 3.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from exporter.artifact import Pixels, TensorSpec
from exporter.errors import InputError, UsageError, unknown_name
from exporter.images.synthetic import synthetic_inputs
from exporter.models.input_shapes import Shape, Shapes
from exporter.models.names import height_width
from exporter.models.outputs import INPUT
from exporter.models.usable_module import channels_of, copied_module
from exporter.runtime.inputs import Array, by_name

Tensors = tuple[Tensor, ...]
"""Each input's (N, ...), in that order: what a module is called with."""


def only(shape: Shape) -> Shapes:
    """Of a module that takes one picture."""
    return {INPUT: shape}


def taken_shapes(
    module: nn.Module, source: str, image_size: Pixels | None, given: Shapes
) -> Shapes:
    """What a module takes, where a size and perhaps some shapes are said.

    Raises:
        InputError: its forward cannot be called by position alone.
        UsageError: a shape is given of what is no input of it, or no size where one is needed.
    """
    names = _names(module, source, given)
    if len(names) < 2:
        name = (*names, INPUT)[0]
        for other in given:
            if other not in (name, INPUT):
                raise unknown_name(f"input of {source}", other, [name])
        if given:
            return only(next(iter(given.values())))
        return only((channels_of(module), *_sides(image_size, name)))
    for other in given:
        if other not in names:
            raise unknown_name(f"input of {source}", other, names)
    missing = [name for name in names if name not in given]
    sides = _sides(image_size, missing[0]) if missing else (0, 0)
    shapes = {name: given.get(name, (3, *sides)) for name in names}
    return _with_channels(module, shapes, missing)


def shapes_of_examples(module: nn.Module, source: str, examples: Shapes) -> Shapes:
    """The same, by an example of each input, in the order in which the module takes them.

    Raises:
        InputError: its forward cannot be called by position alone.
        UsageError: the examples are not those that it needs.
    """
    names = _names(module, source, examples)
    if len(examples) == 1 and len(names) < 2:
        return only(next(iter(examples.values())))
    if set(names) != set(examples):
        given = ", ".join(examples) or "nothing"
        raise UsageError(
            f"example has {given}, and {source} takes {', '.join(names)}; give one of each"
        )
    return {name: examples[name] for name in names}


def positional_names(module: nn.Module, source: str, count: int) -> tuple[str, ...]:
    """What the first `count` inputs of a module are called; input_0, ... where it takes `*args`.

    Raises:
        UsageError: it takes fewer.
    """
    parameters = list(inspect.signature(module.forward).parameters.values())
    if parameters and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return tuple(f"{INPUT}_{index}" for index in range(count))
    if count > len(parameters):
        names = ", ".join(parameter.name for parameter in parameters)
        raise UsageError(f"example has {count} inputs, and {source} takes {names}")
    return tuple(parameter.name for parameter in parameters[:count])


def _names(module: nn.Module, source: str, given: Mapping[str, Shape]) -> tuple[str, ...]:
    """The inputs that a module needs, and those that are given besides, in its order."""
    signature = inspect.signature(module.forward)
    kept: list[str] = []
    skipped = ""
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL and not kept:
            return tuple(given)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        name = parameter.name
        if parameter.default is not parameter.empty and name not in given:
            skipped = skipped or name
            continue
        if skipped or parameter.kind is parameter.KEYWORD_ONLY:
            why = f"after {skipped}, which has none" if skipped else "by keyword alone"
            raise InputError(
                f"{source} takes the input {name} {why}; write a forward that takes the inputs of "
                "the network first, one after the other"
            )
        kept.append(name)
    return tuple(kept)


def _sides(image_size: Pixels | None, name: str) -> tuple[int, int]:
    if image_size is None:
        raise UsageError(
            f"nothing says which size the input {name} has; give image_size, or its shape in inputs"
        )
    return height_width(image_size)


class _OtherChannelsError(Exception):
    def __init__(self, name: str, channels: int) -> None:
        super().__init__(name)
        self.name, self.channels = name, channels


def _with_channels(module: nn.Module, shapes: Shapes, unknown: Sequence[str]) -> Shapes:
    """The shapes with the channels of the first convolution that takes an input itself.

    A copy is run for it. Where that fails, `describe` runs the module again and says why.
    """
    try:
        tried = copied_module(module).cpu().eval().float()
    except Exception:  # somebody else's attributes may raise anything
        return shapes
    found = dict(shapes)
    for _ in range(len(unknown) + 1):
        tensors = {name: torch.zeros(1, *shape) for name, shape in found.items()}
        wanted = {id(tensors[name]): name for name in unknown}

        def look(
            part: nn.Module, given: tuple[object, ...], wanted: Mapping[int, str] = wanted
        ) -> None:
            name = wanted.get(id(given[0])) if given else None
            assert isinstance(part, nn.Conv2d)
            if name is not None and part.in_channels != found[name][0]:
                raise _OtherChannelsError(name, part.in_channels)

        hooks = [
            part.register_forward_pre_hook(look)
            for part in tried.modules()
            if isinstance(part, nn.Conv2d)
        ]
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                tried(*tensors.values())
            break
        except _OtherChannelsError as other:
            found[other.name] = (other.channels, *found[other.name][1:])
        except Exception:  # somebody else's forward may raise anything
            break
        finally:
            for hook in hooks:
                hook.remove()
    return found


def specs_of(shapes: Shapes) -> tuple[TensorSpec, ...]:
    """Each as an input of the graph."""
    return tuple(TensorSpec(name, "float32", ("batch", *shape)) for name, shape in shapes.items())


def random_tensors(shapes: Shapes, count: int) -> Tensors:
    """(count, ...) seeded normal numbers for each input."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, *shape, generator=generator) for shape in shapes.values())


def statistics_tensors(shapes: Shapes, count: int, seed: int) -> Tensors:
    """(count, ...) of each input: images with natural spectra, and normal numbers of a vector."""
    seeds: list[int | tuple[int, ...]] = [seed, *((seed, i) for i in range(1, len(shapes)))]
    return tuple(
        torch.from_numpy(synthetic_inputs(shape, count, own))
        for shape, own in zip(shapes.values(), seeds, strict=True)
    )


def tensors_of(batch: Array) -> Tensors:
    """What a module is called with, from a batch of one input (N, ...) or of records (N,).

    They are the batch's own memory, where it holds one input.
    """
    return tuple(
        torch.from_numpy(np.ascontiguousarray(one)) for one in by_name(batch, INPUT).values()
    )


def copied(tensors: Tensors) -> Tensors:
    """A copy of each: a forward may change its input."""
    return tuple(one.clone() for one in tensors)


def in_words(shapes: Shapes) -> str:
    """For messages: "a (1, 3, 32, 32) input", or each by its name."""
    if len(shapes) == 1:
        return f"a {(1, *next(iter(shapes.values())))} input"
    return "inputs " + ", ".join(f"{name} {(1, *shape)}" for name, shape in shapes.items())
