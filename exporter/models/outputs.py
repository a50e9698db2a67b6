"""What a network answers: its outputs by name, and which of them holds the scores of classes.

    a tensor                  logits
    a list or tuple           output_0, output_1, ...; of a named tuple its fields
    a mapping                 its keys
    a dataclass               its fields

What is None is no output. Characters of a name other than letters, digits, `_`, `.` and `-` become
`_`, and a name that is taken gets a number.

Scores are an output (N, classes). Of several such the first one counts that its name tells to be
scores (`logits`, `class_scores`, ...); where no name tells, the first that no layer of the network
reads: an embedding is what a classifier reads. A feature map is none, and neither is an output that
is called an embedding, features, pooled or auxiliary. Top-1, labels and classes are the scores'.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Final

import torch
from torch import Tensor, nn

from exporter.artifact import TensorSpec
from exporter.errors import InputError

ONLY: Final = "logits"
"""The name of the output of a module that answers a tensor."""
INPUT: Final = "input"
"""The name of a module's one input, which no output may have."""
_SCORES: Final = re.compile(r"logit|score|prob|class", re.IGNORECASE)
_NO_SCORES: Final = re.compile(r"embed|feat|pool|hidden|aux", re.IGNORECASE)


def outputs_of(answer: object, source: str = "the module") -> dict[str, Tensor]:
    """The tensors that a module answered, by their names as outputs, in order.

    Raises:
        InputError: it answers something else than tensors, or one tensor twice.
    """
    found: dict[str, Tensor] = {}
    for given, value in _named(answer):
        if value is None:
            continue
        if not isinstance(value, Tensor):
            what = f"a {type(value).__name__}"
            where = what if value is answer else f"{given!r} as {what}"
            raise InputError(
                f"{source} answers with {where}; expected a tensor, or a tuple, list, dict or "
                "dataclass of tensors with nothing nested in it"
            )
        twin = next((name for name, other in found.items() if other is value), None)
        if twin is not None:
            raise InputError(
                f"{source} answers one tensor twice, as {twin!r} and {given!r}; return it once"
            )
        found[_free(given, {INPUT, *found})] = value
    if not found:
        raise InputError(f"{source} answers with no tensor")
    return found


def _named(answer: object) -> Iterator[tuple[str, object]]:
    if isinstance(answer, Mapping):
        yield from ((str(key), value) for key, value in answer.items())
    elif isinstance(answer, list | tuple):
        names = getattr(answer, "_fields", [f"output_{i}" for i in range(len(answer))])
        yield from zip(names, answer, strict=True)
    elif is_dataclass(answer) and not isinstance(answer, type):
        yield from ((field.name, getattr(answer, field.name)) for field in fields(answer))
    else:
        yield ONLY, answer


def _free(given: str, taken: Collection[str]) -> str:
    """The name, fit for files and configurations; with a number where it is taken."""
    name = re.sub(r"[^\w.-]", "_", given, flags=re.ASCII) or "output"
    unique, number = name, 1
    while unique in taken:
        unique = f"{name}_{number}"
        number += 1
    return unique


def read_outputs(module: nn.Module, images: Sequence[Tensor]) -> frozenset[str]:
    """The names of the outputs that a layer of the module takes, while `images` go through it."""
    taken: list[Tensor] = []

    def note(_: nn.Module, given: tuple[object, ...]) -> None:
        taken.extend(value for value in given if isinstance(value, Tensor))

    parts = [part for part in module.modules() if part is not module]
    hooks = [part.register_forward_pre_hook(note) for part in parts]
    try:
        with torch.inference_mode():
            outputs = outputs_of(
                module(*(one.clone() for one in images))
            )  # a forward may change its input
    finally:
        for hook in hooks:
            hook.remove()
    read = {id(value) for value in taken}
    return frozenset(name for name, value in outputs.items() if id(value) in read)


def scores_of(outputs: Sequence[TensorSpec], read: Collection[str] = ()) -> int | None:
    """Which output, counted from 0, is scores by the rule of this file; None: none is.

    `read` are the names of outputs that the network computes something else from.
    """
    rows = [i for i, output in enumerate(outputs) if _is_rows(output)]
    if len(outputs) == 1:
        return 0 if rows else None
    several = [i for i in rows if outputs[i].shape[1] != 1]
    told = [i for i in several if _SCORES.search(outputs[i].name)]
    untold = [i for i in several if outputs[i].name not in read]
    candidates = [i for i in told or untold if not _NO_SCORES.search(outputs[i].name)]
    return candidates[0] if candidates else None


def _is_rows(output: TensorSpec) -> bool:
    """Whether it is (N, classes), or (N, classes, 1, 1) as a convolution leaves them."""
    return len(output.shape) > 1 and all(size == 1 for size in output.shape[2:])
