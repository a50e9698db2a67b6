"""Whether a module answers an image alike each time, and whatever images stand beside it.

An engine is compared with the module on the same images in batches of other sizes, so an answer
that depends on chance (active dropout, noise) or on the batch (BatchNorm in training mode or
without statistics) can be proved of no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from exporter.errors import InputError
from exporter.models.inputs import Tensors, copied
from exporter.models.module_calls import module_calls
from exporter.models.outputs import outputs_of

LIMIT: Final = 1e-4
"""The relative difference of two answers that rounding does not explain: sums in another order
come to 1e-6."""
_RUNS: Final = 2
_RUNS_WITH_CHANCE: Final = 16
"""How often a module is run that draws random numbers: a rare drop shows itself seldom."""


def check_independence(module: nn.Module, source: str, images: Tensors) -> None:
    """Runs the module on the images together, more than once, and on each of them alone.

    `images` is (N, ...) of each input, and the module answers tensors (1, ...) to one of them.

    Raises:
        InputError: an answer depends on chance, or on the other images of its batch; the message
            names the first layer whose output does.
    """
    count = len(images[0])
    with torch.random.fork_rng(devices=[]):
        together = _run(module, images)
        state = torch.get_rng_state()
        again = _run(module, images)
        draws = not torch.equal(state, torch.get_rng_state())
        for output in together:
            if output.shape[:1] != (count,):
                raise InputError(
                    f"{source} answers {count} images with shape {tuple(output.shape)}, "
                    f"expected the batch dimension first: ({count}, ...)"
                )
        for _ in range(_RUNS, _RUNS_WITH_CHANCE if draws else _RUNS):
            if _differ(again, together):
                break
            again = _run(module, images)
        if _differ(again, together):
            raise InputError(
                f"{source} answers the same images differently each time{_where(module, images)}; "
                "call eval(), and leave out what draws random numbers"
            )
        for index in range(count):
            alone = slice(index, index + 1)
            expected = [output[alone] for output in together]
            if _differ(_run(module, _rows(images, alone)), expected):
                raise InputError(
                    f"{source}: the answer to an image depends on the other images of its batch"
                    f"{_where(module, images, alone)}; call eval(), and give it layers that do "
                    "not mix images"
                )


def _rows(images: Tensors, rows: slice) -> Tensors:
    return tuple(one[rows] for one in images)


def _run(module: nn.Module, images: Tensors) -> list[Tensor]:
    with torch.inference_mode():
        answer = module(*copied(images))
    return list(outputs_of(answer).values())


def _differ(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return any(map(_differs, found, expected))


def _differs(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return True
    # Both may hold NaN or infinity: that is judged where answers are.
    a, b = (value.double().nan_to_num() for value in (found, expected))
    return bool((a - b).norm() > LIMIT * b.norm())


def _where(module: nn.Module, images: Tensors, alone: slice = slice(None)) -> str:
    """From which layer on the outputs differ, in words; empty where the calls don't match.

    The images are run together, and those of `alone` once more.
    """
    first = module_calls(module, images)
    second = module_calls(module, _rows(images, alone))
    for before, after in zip(first, second, strict=False):
        if before.path != after.path:
            return ""
        has_rows = before.output.dim() and len(before.output) == len(images[0])
        expected = before.output[alone] if has_rows else before.output
        if _differs(after.output, expected):
            kind = type(before.part).__name__
            if not before.path:
                return f", in the forward of {kind} itself"
            return f", first in {before.path} ({kind}{_why(before.part)})"
    return ""


def _why(part: nn.Module) -> str:
    if part.training:
        return ", in training mode"
    if isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is None:
        return ", which keeps no running statistics"
    return ""
