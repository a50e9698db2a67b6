"""A kept export is given only for the very same network, and nobody changes it for the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import onnx_ir as ir
import pytest
import torch

from exporter.artifact import ModelSpec
from exporter.models.resnet import BasicBlock, ResNet
from tests.exported_once import KEPT, Export, exported_once
from tests.graphs import graph, operators
from tests.modules import model_of

SPEC = model_of(torch.nn.Identity(), size=8, classes=4).spec


def network(*, residual: bool = True) -> ResNet:
    torch.manual_seed(0)
    return ResNet(BasicBlock, [1], num_classes=4, cifar=True, residual=residual).eval()


@pytest.fixture
def asked() -> list[torch.nn.Module]:
    return []


@pytest.fixture
def export(asked: list[torch.nn.Module]) -> Export:
    def export(module: torch.nn.Module, _spec: ModelSpec) -> ir.Model:
        asked.append(module)
        return graph("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }")

    return exported_once(export)


def test_the_same_network_is_exported_once_and_nobody_changes_it_for_the_next(
    export: Export, asked: list[torch.nn.Module]
) -> None:
    first = export(network(), SPEC)
    first.graph.remove(first.graph[0])
    assert operators(export(network(), SPEC)) == ["Relu"]
    assert len(asked) == 1


def other_weights(net: ResNet) -> None:
    net.fc.bias.data[0] += 1


def other_statistics(net: ResNet) -> None:
    assert net.bn1.running_mean is not None
    net.bn1.running_mean[0] += 1


def in_training(net: ResNet) -> None:
    net.train()


def a_forward_of_its_own(net: ResNet) -> None:
    setattr(net, "forward", torch.relu)  # noqa: B010 - a method cannot be assigned to


def a_hook(net: ResNet) -> None:
    net.bn1.register_forward_hook(lambda *_: None)


def no_shortcut(net: ResNet) -> None:
    """The parts are the same: its one block has no projection."""
    net.load_state_dict(network(residual=False).state_dict())
    net.layer1 = network(residual=False).layer1


@pytest.mark.parametrize(
    "change",
    [other_weights, other_statistics, in_training, a_forward_of_its_own, a_hook, no_shortcut],
)
def test_another_network_is_exported(
    export: Export, asked: list[torch.nn.Module], change: Callable[[ResNet], None]
) -> None:
    export(network(), SPEC)
    other = network()
    change(other)
    export(other, SPEC)
    assert asked[1:] == [other]


def test_another_request_is_exported(export: Export, asked: list[torch.nn.Module]) -> None:
    export(network(), SPEC)
    export(network(), dataclasses.replace(SPEC, opset=21))
    assert len(asked) == 2


def test_a_network_of_somebody_elses_is_exported_each_time(
    export: Export, asked: list[torch.nn.Module]
) -> None:
    for _ in range(2):
        export(torch.nn.Sequential(network()), SPEC)
    assert len(asked) == 2


def test_few_are_kept(export: Export, asked: list[torch.nn.Module]) -> None:
    for opset in (*range(KEPT + 1), 0):
        export(network(), dataclasses.replace(SPEC, opset=opset))
    assert len(asked) == KEPT + 2
