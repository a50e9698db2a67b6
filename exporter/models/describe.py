"""From a module with its weights in place to a `Model`: counted, tried out, named."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from exporter.artifact import (
    Model,
    ModelKind,
    ModelSpec,
    Preprocessing,
    Skipped,
    TensorSpec,
    WeightsInfo,
)
from exporter.errors import InputError
from exporter.models.independence import check_independence, random_images
from exporter.models.output_type import why_no_scores
from exporter.models.outputs import INPUT, outputs_of, read_outputs, scores_of
from exporter.runtime.errors import reason_of

SEVERAL_INPUTS: Final = "make one tensor of them, or export each part that takes one by itself"
"""What to do with a network of several inputs."""


@dataclass(frozen=True)
class Loaded:
    """A module in eval mode with its weights in place, and what is known of them."""

    module: nn.Module
    info: WeightsInfo
    preprocessing: Preprocessing | Skipped
    notes: tuple[str, ...] = ()


def describe(
    loaded: Loaded, *, name: str, source: str, kind: ModelKind, shape: tuple[int, int, int]
) -> Model:
    """The `Model` of a module that takes (B, C, H, W), `shape` being (C, H, W).

    Raises:
        InputError: the module does not take such an input to tensors of float32 with the batch in
            front, or what it answers depends on chance or on the other images of a batch.
    """
    module = loaded.module
    _check_one_input(module, source)
    images = random_images(shape, 2)
    try:
        macs, answer = count_macs(module, images[:1].clone())
    except Exception as error:  # somebody else's forward may raise anything
        raise InputError(
            f"{source} does not run on a {(1, *shape)} input: {one_line(error)}"
        ) from None
    found = outputs_of(answer, source)
    for given, output in found.items():
        which = f"the output {given!r}" if len(found) > 1 else "the output"
        wrong_type = why_no_scores(str(output.dtype).removeprefix("torch."))
        if wrong_type:
            raise InputError(f"{which} of {source} is {wrong_type}")
        if output.numel() == 0:
            raise InputError(
                f"{which} of {source} has no values, its shape for one image is "
                f"{tuple(output.shape)}; give a larger --image-size, or mend its forward"
            )
        if output.dim() < 2 or output.shape[0] != 1:
            raise InputError(
                f"{which} of {source} for one image has the shape {tuple(output.shape)}, "
                "expected the batch dimension first: (1, ...)"
            )
    if kind is not ModelKind.BUILTIN:  # those are known
        _check_independence(module, source, images)
    outputs = [
        TensorSpec(given, "float32", ("batch", *output.shape[1:]))
        for given, output in found.items()
    ]
    read = read_outputs(module, images[:1]) if len(outputs) > 1 else ()
    spec = ModelSpec(
        name=name,
        source=source,
        kind=kind,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        macs=macs,
        input=TensorSpec(INPUT, "float32", ("batch", *shape)),
        output=outputs[0],
        preprocessing=loaded.preprocessing,
        weights=loaded.info,
        other_outputs=tuple(outputs[1:]),
        scores=scores_of(outputs, read),
    )
    return Model(spec, module, notes=loaded.notes)


def _check_one_input(module: nn.Module, source: str) -> None:
    needed = [
        parameter.name
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise InputError(
            f"{source} takes {len(needed)} inputs ({', '.join(needed)}), and one image is "
            f"accepted; {SEVERAL_INPUTS}"
        )


def _check_independence(module: nn.Module, source: str, images: torch.Tensor) -> None:
    try:
        check_independence(module, source, images)
    except InputError:
        raise
    except Exception as error:  # somebody else's forward may raise anything
        raise InputError(
            f"{source} runs on one image and not on {len(images)}: {one_line(error)}"
        ) from None


def count_macs(module: nn.Module, example: torch.Tensor) -> tuple[int, object]:
    """Multiply-accumulates of convolutions and linear layers for `example`, and the output."""
    total = 0

    def count(part: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += macs_of(part, output)

    layers = [part for part in module.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    hooks = [part.register_forward_hook(count) for part in layers]
    try:
        with torch.inference_mode():
            output = module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return total, output


def macs_of(part: nn.Module, output: torch.Tensor) -> int:
    """Multiply-accumulates of one layer for its output: O H W times (I/g) kH kW; other layers 0."""
    if isinstance(part, nn.Conv2d):
        return output.numel() * part.weight[0].numel()
    return output.numel() * part.in_features if isinstance(part, nn.Linear) else 0


def one_line(error: BaseException) -> str:
    """Somebody else's message, short enough to be quoted in ours."""
    return reason_of(error, 200)
