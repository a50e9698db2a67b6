"""Answers that depend on chance or on the neighbours in a batch are refused at once.

Each message names the layer. What only looks like it (a module that stays in training mode and does
nothing, a forward that changes its input) goes through.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from exporter.artifact import ModelKind, Skipped, WeightsInfo
from exporter.errors import InputError
from exporter.models.describe import Loaded, describe
from exporter.models.initialise import initialise, statistics_images
from exporter.models.inputs import only
from exporter.models.live_module import LiveModule, from_module

SHAPE = (3, 12, 12)


class Net(nn.Module):
    """One layer between two others."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.middle = nn.Sequential(nn.ReLU(), middle or nn.Identity())
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.middle(self.first(x)).mean((2, 3)))
        return out


class Always(nn.Module):
    """Keeps what it holds in training mode, as code does that froze the wrong half."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def train(self, mode: bool = True) -> Always:
        super().train(mode)
        self.inner.train()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x)
        return out


class Noise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * torch.randn_like(x)


class SeldomDrops(nn.Module):
    """About one of the 1,600 values of two images: every third run drops none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, 0.0006, training=True)


class Centred(nn.Module):
    """Takes the mean of the batch away."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True)


class Ranked(nn.Module):
    """Weighs each image against the others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.mean((1, 2, 3), keepdim=True).softmax(0)


def defined(module: nn.Module) -> object:
    module = module.eval()
    loaded = Loaded(module, WeightsInfo("seeded", "", trained=True), Skipped("not needed"))
    return describe(loaded, name="net", source="x:net", kind=ModelKind.MODULE, shapes=only(SHAPE))


def refused(module: nn.Module) -> str:
    with pytest.raises(InputError) as caught:
        defined(module)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (Always(nn.Dropout(0.3)), "middle.1.inner (Dropout, in training mode)"),
        (Always(nn.Dropout2d(0.5)), "middle.1.inner (Dropout2d, in training mode)"),
        (Noise(), "middle.1 (Noise)"),
    ],
)
def test_chance_is_found_and_named(middle: nn.Module, named: str) -> None:
    torch.manual_seed(0)
    message = refused(Net(middle))
    assert message.startswith("x:net answers the same images differently each time")
    assert f"first in {named};" in message


def test_chance_that_shows_seldom_is_found() -> None:
    torch.manual_seed(0)
    assert "differently each time" in refused(Net(SeldomDrops()))


def test_chance_in_a_forward_of_its_own_is_named_by_its_class() -> None:
    class Dropping(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.dropout(super().forward(x), 0.5, training=True)

    assert "in the forward of Dropping itself" in refused(Dropping())


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (
            nn.BatchNorm2d(8, track_running_stats=False),
            "middle.1 (BatchNorm2d, which keeps no running statistics)",
        ),
        (Always(nn.BatchNorm2d(8)), "middle.1.inner (BatchNorm2d, in training mode)"),
        (Centred(), "middle.1 (Centred)"),
        (Ranked(), "middle.1 (Ranked)"),
    ],
)
def test_neighbours_are_found_and_named(middle: nn.Module, named: str) -> None:
    torch.manual_seed(0)
    message = refused(Net(middle))
    assert "the answer to an image depends on the other images of its batch" in message
    assert f"first in {named};" in message


@pytest.mark.parametrize(
    "middle",
    [
        Always(nn.Dropout(0.0)),
        Always(nn.ReLU()),
        nn.BatchNorm2d(8),
        nn.InstanceNorm2d(8),
        nn.GroupNorm(2, 8),
        nn.Dropout(0.9),
    ],
    ids=lambda middle: type(middle).__name__,
)
def test_what_answers_an_image_alone_passes(middle: nn.Module) -> None:
    torch.manual_seed(0)
    assert defined(Net(middle))


class Normalised(Net):
    """Changes its input in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.sub_(0.5).div_(0.25))


def test_a_forward_that_changes_its_input_passes() -> None:
    torch.manual_seed(0)
    assert defined(Normalised())


def test_such_a_forward_does_not_count_as_changed_by_hooks() -> None:
    """Hooks that only look on are left off, which is found by running with and without them."""
    module = Normalised().eval()
    seen: list[torch.Tensor] = []
    module.fc.register_forward_hook(lambda _part, _inputs, output: seen.append(output))
    model = from_module(LiveModule(module, only(SHAPE)), "auto", 0)
    assert model.module is not None
    assert not any(part._forward_hooks for part in model.module.modules())


def test_the_programs_random_numbers_stay_as_they_were() -> None:
    torch.manual_seed(0)
    net = Net(Always(nn.Dropout(0.0)))
    before = torch.get_rng_state()
    defined(net)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda x: x.argmax(1, keepdim=True), "int64, expected float32 scores: leave out what"),
        (lambda x: x.argmax(1), "int64, expected float32 scores: leave out what"),
        (lambda x: x > 0, "bool, expected float32 scores: leave out what"),
        (lambda x: x.to(torch.int32), "int32, expected float32 scores: leave out what"),
        (torch.Tensor.double, "float64, expected float32 scores: end it with a cast to float32"),
        (torch.Tensor.half, "float16, expected float32 scores: end it with a cast to float32"),
        (torch.Tensor.bfloat16, "bfloat16, expected float32 scores: end it with a cast"),
        (lambda x: torch.complex(x, x), "complex64, expected float32 scores"),
    ],
)
def test_outputs_of_another_type_are_refused(end: object, words: str) -> None:
    class Ended(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert callable(end)
            out: torch.Tensor = end(super().forward(x))
            return out

    assert refused(Ended()).startswith(f"the output of x:net is {words}")


@pytest.mark.parametrize(
    "middle",
    [
        nn.BatchNorm2d(8, affine=False),
        nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, affine=False), nn.ReLU()),
        nn.Sequential(nn.InstanceNorm2d(8, affine=False), nn.ReLU()),
    ],
)
def test_random_weights_for_a_normalization_without_its_own(middle: nn.Module) -> None:
    module = Net(middle)
    initialise(module, statistics_images(only(SHAPE), 0), 0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_mean.any()
    assert defined(module)
