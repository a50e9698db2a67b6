"""What a module takes: names, shapes, channels, and how each is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from exporter.artifact import Model
from exporter.errors import InputError, UsageError
from exporter.models.inputs import only
from exporter.models.live_module import LiveModule, from_module, input_shapes
from tests.networks import SIZE, RgbDepth, Siamese, Trunk, seasoned


class Taking(nn.Module):
    """Calls a function of two convolutions, of 3 channels and 5."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(5, 4, 3)
        self._forward = forward
        self.forward = forward.__get__(self)


def both(self: Any, image: Tensor, flow: Tensor) -> Tensor:
    answer: Tensor = (self.first(image) + self.second(flow)).mean((2, 3))
    return answer


def scaled(self: Any, image: Tensor, flow: Tensor) -> Tensor:
    """The convolution does not take the input itself."""
    return both(self, image / 2, flow / 2)


def with_an_option(self: Any, image: Tensor, flow: Tensor | None = None) -> Tensor:
    answer: Tensor = self.first(image).mean((2, 3))
    return answer if flow is None else answer + self.second(flow).mean((2, 3))


def by_keyword(self: Any, image: Tensor, *, flow: Tensor) -> Tensor:
    return both(self, image, flow)


def handed_on(self: Any, *given: Tensor) -> Tensor:
    return both(self, *given)


def after_an_option(
    self: Any, image: Tensor, scale: float = 1.0, flow: Tensor | None = None
) -> Tensor:
    return with_an_option(self, image * scale, flow)


PICTURES = {"image": (3, 8, 8), "flow": (5, 8, 8)}


def test_channels_are_those_that_convolutions_take() -> None:
    assert input_shapes(Taking(both), image_size=8) == PICTURES
    module = Taking(both).train()
    assert input_shapes(module, image_size=(8, 9))["flow"] == (5, 8, 9)
    assert module.training


def test_what_no_convolution_tells_is_given() -> None:
    assert input_shapes(Taking(scaled), image_size=8)["flow"] == (3, 8, 8)
    found = input_shapes(Taking(scaled), image_size=8, inputs=("flow=5x8x8",))
    assert found == PICTURES
    assert input_shapes(Taking(scaled), inputs=("flow=5x8x8", "image=3x8x8")) == PICTURES


def test_examples_are_given_in_order_or_by_name() -> None:
    pair = torch.zeros(1, 3, 8, 8), torch.zeros(7, 5, 8, 8)
    assert input_shapes(Taking(both), pair) == PICTURES
    by_name = {"flow": pair[1], "image": pair[0]}
    assert list(input_shapes(Taking(both), by_name).items()) == list(PICTURES.items())
    assert input_shapes(Taking(handed_on), pair) == {"input_0": (3, 8, 8), "input_1": (5, 8, 8)}
    assert input_shapes(Taking(with_an_option), pair) == PICTURES
    assert input_shapes(Taking(with_an_option), pair[:1]) == only((3, 8, 8))
    found = input_shapes(seasoned(RgbDepth(), shapes=[*RgbDepth.SHAPES.values()]), {
        name: torch.zeros(1, *shape) for name, shape in RgbDepth.SHAPES.items()
    })  # fmt: skip
    assert found == RgbDepth.SHAPES


def test_an_option_is_an_input_where_it_is_given() -> None:
    assert input_shapes(Taking(with_an_option), image_size=8) == only((3, 8, 8))
    found = input_shapes(Taking(with_an_option), image_size=8, inputs=("flow=5x8x8",))
    assert found == PICTURES


@pytest.mark.parametrize(
    ("forward", "options", "message"),
    [
        (both, {"image_size": 8, "inputs": ("flaw=5x8x8",)}, "did you mean flow"),
        (both, {"inputs": ("flow=5x8x8",)}, "which size the input image has; give image_size"),
        (both, {"example": (torch.zeros(1, 3, 8, 8),) * 3}, "has 3 inputs, and Taking takes image"),
        (
            both,
            {"example": {"image": torch.zeros(1, 3, 8, 8)}},
            "has image, and Taking takes image",
        ),
        (both, {"example": torch.zeros(1, 3, 8, 8)}, "example has image, and Taking takes image"),
        (both, {"example": torch.zeros(1, 3, 8, 8), "image_size": 8}, "give either example="),
        (by_keyword, {"image_size": 8}, "takes the input flow by keyword alone"),
        (after_an_option, {"image_size": 8, "inputs": ("flow=5x8x8",)}, "flow after scale"),
        (both, {"image_size": 8, "inputs": ("flow=5x8",)}, "give NAME=CHANNELSxHEIGHTxWIDTH"),
        (both, {"image_size": 8, "inputs": ("flow=5x8x8", "flow=3x8x8")}, "give each input once"),
    ],
)
def test_what_does_not_fit_is_refused(
    forward: Callable[..., Tensor], options: dict[str, Any], message: str
) -> None:
    with pytest.raises((UsageError, InputError), match=message):
        input_shapes(Taking(forward), **options)


def defined(module: nn.Module, **shapes: tuple[int, ...]) -> Model:
    return from_module(LiveModule(module, shapes), "auto", 0)


def test_each_is_in_the_specification() -> None:
    shapes = [*RgbDepth.SHAPES.values()]
    model = defined(seasoned(RgbDepth(), shapes=shapes), **RgbDepth.SHAPES)
    assert {one.name: one.sample for one in model.spec.inputs} == RgbDepth.SHAPES
    assert {(one.dtype, one.shape[0]) for one in model.spec.inputs} == {("float32", "batch")}
    assert model.spec.scores == 1


def test_shapes_that_do_not_fit_are_told_with_the_way_to_give_them() -> None:
    shapes = {"rgb": (3, 32, 32), "depth": (1, 32, 32), "about": (6,)}
    message = r"does not run on inputs rgb \(1, 3, 32, 32\), depth .*--input NAME=CxHxW"
    with pytest.raises(InputError, match=message):
        defined(seasoned(RgbDepth(), shapes=[*RgbDepth.SHAPES.values()]), **shapes)


class Mixing(Siamese):
    """The answer to a pair depends on the second pictures of others."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return super().forward(left, right - right.mean(0))


def test_each_input_is_independent_of_its_batch() -> None:
    pictures = [(3, SIZE, SIZE)] * 2
    with pytest.raises(InputError, match="depends on the other images of its batch"):
        defined(seasoned(Mixing(), shapes=pictures), left=(3, SIZE, SIZE), right=(3, SIZE, SIZE))


class Echo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"right": self.trunk(left + right)[-1]}


def test_an_output_may_not_be_called_as_an_input() -> None:
    with pytest.raises(InputError, match="an input and an output called 'right'"):
        defined(Echo().eval(), left=(3, SIZE, SIZE), right=(3, SIZE, SIZE))
