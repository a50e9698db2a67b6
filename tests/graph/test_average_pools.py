"""Average pools that PyTorch exports wrongly have PyTorch's numbers; all others are left alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from exporter.graph.to_onnx import export
from exporter.models.inputs import only
from exporter.models.live_module import LiveModule, from_module
from tests.graphs import operators, random, relative_error, run

SIDES = [(32, 32), (17, 30), (31, 33)]

WRONG = {
    "divisor": nn.AvgPool2d(3, 2, 1, divisor_override=5),
    "divisor without padding": nn.AvgPool2d(2, divisor_override=1),
    "divisor and rounding up": nn.AvgPool2d(3, 2, ceil_mode=True, divisor_override=7),
    "a window in the padding": nn.AvgPool2d(3, 3, 1, ceil_mode=True),
    "one in the padding of a side": nn.AvgPool2d((3, 2), (3, 2), (1, 1), ceil_mode=True),
    "a window beyond the padding": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "beyond, padding not counted": nn.AvgPool2d(3, 3, 1, ceil_mode=True, count_include_pad=False),
}
RIGHT = {
    "plain": nn.AvgPool2d(2),
    "ResNet-D": nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    "padded": nn.AvgPool2d(3, 2, 1),
    "padding not counted": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
}


def exported(pool: nn.AvgPool2d, side: tuple[int, int], seed: int = 0) -> tuple[list[str], float]:
    """The operators, and the error against PyTorch."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), pool, nn.Conv2d(4, 5, 1), nn.Flatten()).eval()
    x = random(3, 3, *side, seed=seed)
    graph = export(from_module(LiveModule(module, only((3, *side))), "auto", 0))
    with torch.inference_mode():
        expected = module(torch.from_numpy(x)).double().numpy()
    return operators(graph), relative_error(run(graph, x), expected)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("what", [*WRONG, *RIGHT])
def test_the_numbers_are_pytorchs(what: str, side: tuple[int, int]) -> None:
    _, error = exported((WRONG | RIGHT)[what], side)
    assert error < 1e-5


@pytest.mark.parametrize("what", RIGHT)
def test_what_is_exported_rightly_is_one_operator(what: str) -> None:
    made, _ = exported(RIGHT[what], (32, 32))
    assert made == ["Conv", "AveragePool", "Conv", "Reshape"]


def test_the_module_is_as_it_was() -> None:
    pool = nn.AvgPool2d(3, 2, 1, divisor_override=5)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), pool).eval()
    model = from_module(LiveModule(module, only((3, 8, 8))), "auto", 0)
    export(model)
    assert model.module is not None
    assert isinstance(model.module.get_submodule("1"), nn.AvgPool2d)
