"""From a module with its weights in place to a `Model`: counted, tried out, named."""

from __future__ import annotations

from dataclasses import dataclass

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
from exporter.models.independence import check_independence
from exporter.models.input_shapes import Shapes
from exporter.models.inputs import Tensors, copied, in_words, random_tensors, specs_of
from exporter.models.output_type import why_no_scores
from exporter.models.outputs import outputs_of, read_outputs, scores_of
from exporter.runtime.errors import reason_of


@dataclass(frozen=True)
class Loaded:
    """A module in eval mode with its weights in place, and what is known of them."""

    module: nn.Module
    info: WeightsInfo
    preprocessing: Preprocessing | Skipped
    notes: tuple[str, ...] = ()


def describe(loaded: Loaded, *, name: str, source: str, kind: ModelKind, shapes: Shapes) -> Model:
    """The `Model` of a module that takes inputs of such shapes, each with a batch in front.

    Raises:
        InputError: the module does not take such inputs to tensors of float32 with the batch in
            front, or what it answers depends on chance or on the other images of a batch.
    """
    module = loaded.module
    images = random_tensors(shapes, 2)
    one = tuple(each[:1] for each in images)
    try:
        macs, answer = count_macs(module, *copied(one))
    except Exception as error:  # somebody else's forward may raise anything
        hint = "; give the shape of each with --input NAME=CxHxW" if len(shapes) > 1 else ""
        raise InputError(
            f"{source} does not run on {in_words(shapes)}: {one_line(error)}{hint}"
        ) from None
    found = outputs_of(answer, source)
    for given, output in found.items():
        if given in shapes:
            raise InputError(
                f"{source} has an input and an output called {given!r}; rename one of them"
            )
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
    read = read_outputs(module, one) if len(outputs) > 1 else ()
    inputs = specs_of(shapes)
    spec = ModelSpec(
        name=name,
        source=source,
        kind=kind,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        macs=macs,
        input=inputs[0],
        output=outputs[0],
        preprocessing=loaded.preprocessing,
        weights=loaded.info,
        other_outputs=tuple(outputs[1:]),
        scores=scores_of(outputs, read),
        other_inputs=inputs[1:],
    )
    return Model(spec, module, notes=loaded.notes)


def _check_independence(module: nn.Module, source: str, images: Tensors) -> None:
    try:
        check_independence(module, source, images)
    except InputError:
        raise
    except Exception as error:  # somebody else's forward may raise anything
        raise InputError(
            f"{source} runs on one image and not on {len(images[0])}: {one_line(error)}"
        ) from None


def count_macs(module: nn.Module, *example: torch.Tensor) -> tuple[int, object]:
    """Multiply-accumulates of convolutions and linear layers for `example`, and the output."""
    total = 0

    def count(part: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += macs_of(part, output)

    layers = [part for part in module.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    hooks = [part.register_forward_hook(count) for part in layers]
    try:
        with torch.inference_mode():
            output = module(*example)
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
