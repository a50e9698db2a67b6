"""A module that the program holds: taken as it is, left as it was."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from exporter.artifact import ModelKind
from exporter.errors import InputError, UsageError
from exporter.models.inputs import only
from exporter.models.live_module import LiveModule, as_module, from_module, input_shapes
from exporter.models.modules import from_factory

SHAPE = (1, 12, 20)


class Net(nn.Module):
    """(N, 1, H, W) -> (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))
        return y


shared = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 2)).train()
"""What this file holds for whoever imports it."""


def net() -> Net:
    """In the middle of a training."""
    torch.manual_seed(0)
    module = Net().train()
    module(torch.randn(4, *SHAPE)).sum().backward()
    module.conv.eval()
    module.fc.requires_grad_(False)
    return module


def defined(module: nn.Module, weights: str = "auto") -> Any:
    return from_module(LiveModule(module, only(SHAPE)), weights, 0)


def state_of(module: nn.Module) -> dict[str, Any]:
    parameters = dict(module.named_parameters())
    return {
        "modes": {name: part.training for name, part in module.named_modules()},
        "values": {name: value.clone() for name, value in module.state_dict().items()},
        "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in parameters.items()},
        "wanted": {name: p.requires_grad for name, p in parameters.items()},
        "identities": {name: (id(p), p.data_ptr()) for name, p in parameters.items()},
        "hooks": {n: list(part._forward_hooks.values()) for n, part in module.named_modules()},
    }


@pytest.mark.parametrize("weights", ["auto", "random"])
def test_its_state_is_not_changed(weights: str) -> None:
    module = net()
    seen: list[torch.Tensor] = []
    module.bn.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    before = state_of(module)
    model = defined(module, weights)
    after = state_of(module)
    for key in ("modes", "wanted", "identities", "hooks"):
        assert after[key] == before[key]
    for key in ("values", "gradients"):
        torch.testing.assert_close(after[key], before[key], rtol=0, atol=0)
    assert not any(part.training for part in model.module.modules())
    # Nothing that is done to the model later can reach the module.
    ours = {p.data_ptr() for p in model.module.state_dict().values()}
    assert ours.isdisjoint(p.data_ptr() for p in module.state_dict().values())


def test_it_is_described_by_its_example() -> None:
    model = defined(net())
    assert (model.spec.name, model.spec.source, model.spec.kind) == ("Net", "Net", ModelKind.LIVE)
    assert model.spec.input.shape == ("batch", *SHAPE)
    assert model.spec.macs == 12 * 20 * 8 * 9 + 8 * 5
    assert model.spec.weights.trained
    x = torch.randn(3, *SHAPE)
    torch.testing.assert_close(model.module(x), net().eval()(x))


def test_hooks_that_look_on_are_left_out_and_those_that_change_the_answer_are_not() -> None:
    module = net().eval()
    seen: list[torch.Tensor] = []
    module.bn.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    watched = defined(module).module
    called = len(seen)
    watched(torch.zeros(1, *SHAPE))
    assert len(seen) == called <= 1
    module.fc.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    x = torch.randn(2, *SHAPE)
    torch.testing.assert_close(defined(module).module(x), module(x))


def test_hooks_that_cannot_be_copied_are_named() -> None:
    class Recorder:
        kept: torch.Tensor

        def keep(self, _module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            self.kept = output

        def __deepcopy__(self, _memo: object) -> Recorder:
            raise RuntimeError("holds a graph")

    module = net()
    module.bn.register_forward_hook(Recorder().keep)
    with pytest.raises(InputError, match=r"with its hooks, remove them \(holds a graph\)"):
        defined(module)


def test_a_module_that_cannot_be_copied_is_named() -> None:
    module = net()
    module.of_a_graph = torch.ones(1, requires_grad=True) * 2
    with pytest.raises(InputError, match=r"^Net cannot be copied \(Only Tensors created"):
        defined(module)


def test_other_types_are_taken_in_float32_and_said() -> None:
    model = defined(net().double())
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert "torch.float64; it is taken in float32" in model.notes[0]
    assert defined(net()).notes == ()


def test_what_wraps_a_network_is_taken_off() -> None:
    module = net()
    for wrapped in (nn.DataParallel(module), torch.compile(module, backend="eager")):
        assert isinstance(wrapped, nn.Module)
        assert defined(wrapped).spec.name == "Net"


def test_a_checkpoint_may_replace_its_weights(tmp_path: Any) -> None:
    other = copy.deepcopy(net())
    nn.init.ones_(other.fc.bias)
    torch.save(other.state_dict(), tmp_path / "other.pth")
    model = defined(net(), str(tmp_path / "other.pth"))
    assert model.spec.weights.source == "other.pth"
    assert bool((model.module.fc.bias == 1).all())


@pytest.mark.parametrize(
    ("example", "size", "message"),
    [
        (None, None, "give either example="),
        (torch.zeros(1, 3, 8, 8), 8, "give either example="),
        (torch.zeros(3, 8, 8), None, "expected floats of"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), None, "example is uint8"),
        ("x", None, "example is str"),
    ],
)
def test_what_it_takes_must_be_said_once(example: Any, size: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        input_shapes(net(), example, size)


def test_what_it_takes_is_said_by_an_example_or_a_size() -> None:
    assert input_shapes(net(), torch.zeros(7, 1, 8, 9)) == only((1, 8, 9))
    assert input_shapes(net(), np.zeros((1, 4, 8, 9))) == only((4, 8, 9))
    assert input_shapes(net(), image_size=32) == only((1, 32, 32))
    assert input_shapes(net(), inputs=("x=3x9x8",)) == only((3, 9, 8))


def test_what_is_no_module_is_named() -> None:
    with pytest.raises(UsageError, match=r"the class Net, .+; give what Net\(\) makes"):
        as_module(Net)
    with pytest.raises(UsageError, match="of type int, expected a name, a path or a torch"):
        as_module(5)


def test_a_module_that_is_found_by_its_name_is_left_as_it_was_too() -> None:
    before = state_of(shared)["values"]
    from_factory(f"{__name__}:shared", "random", None, 16, (), 0)
    assert shared.training
    torch.testing.assert_close(state_of(shared)["values"], before, rtol=0, atol=0)
