"""Graphs of several outputs: their names and order, and what each lowering makes of inner ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from exporter.artifact import Dialect, Model, Precision
from exporter.graph.files import serialize
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import Samples
from exporter.models.inputs import only
from exporter.models.live_module import LiveModule, from_module
from exporter.models.outputs import outputs_of
from exporter.passes.blocks import find_residual_blocks
from exporter.passes.expose_tensors import isolate
from exporter.passes.qdq.ranges import Ranges
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from exporter.targets.ort.session import OrtSession, make_session, session_options
from tests.networks import SIZE, Embedder, Pyramid, Trunk, seasoned

Array = np.ndarray[Any, Any]


def model_of(module: nn.Module) -> Model:
    return from_module(LiveModule(seasoned(module), only((3, SIZE, SIZE))), "auto", 0)


def images(count: int = 2) -> Array:
    return np.random.default_rng(0).standard_normal((count, 3, SIZE, SIZE)).astype(np.float32)


def run(graph: ir.Model, feeds: dict[str, Array]) -> dict[str, Array]:
    """With the runtime's optimizations off."""
    with OrtSession(make_session(serialize(graph), session_options(1, optimize=False))) as session:
        return session.run_named(feeds)


def error(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("network", [Pyramid, Embedder])
def test_they_are_exported_in_order_under_their_names(network: type[nn.Module]) -> None:
    model = model_of(network())
    assert model.module is not None
    own = vars(model.module).get("forward")
    graph = export(model)
    assert vars(model.module).get("forward") is own  # as it was
    assert [value.name for value in graph.graph.outputs] == [o.name for o in model.spec.outputs]
    with torch.inference_mode():
        expected = outputs_of(model.module(torch.from_numpy(images())))
    for name, found in run(graph, {"input": images()}).items():
        assert error(found, expected[name].numpy()) < 1e-5


class Clashing(nn.Module):
    """Its outputs have the names that PyTorch gives to tensors inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.conv(x)
        z = y.relu() + 1
        return {"relu": z.mean((2, 3)), "conv2d": z * 2, "conv": y}


def test_outputs_may_have_the_names_of_tensors_inside() -> None:
    model = model_of(Clashing())
    graph, _ = optimize(export(model), model.module)
    assert [value.name for value in graph.graph.outputs] == ["relu", "conv2d", "conv"]
    names = [value.name for node in graph.graph for value in node.outputs]
    assert len(names) == len(set(names))


class Twice(nn.Module):
    """Answers one tensor under two names, by way of something that does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(x)
        return y, y.detach()


def test_one_tensor_under_two_names_is_two_outputs() -> None:
    model = model_of(Twice())
    graph, _ = optimize(export(model), model.module)
    assert [value.name for value in graph.graph.outputs] == ["output_0", "output_1"]
    found = run(graph, {"input": images()})
    np.testing.assert_array_equal(found["output_0"], found["output_1"])


@pytest.fixture(scope="module")
def trunk() -> ir.Model:
    """Its first output is read by the layers of its second."""
    model = model_of(Trunk())
    return optimize(export(model), model.module)[0]


@pytest.fixture(scope="module")
def ranges(trunk: ir.Model) -> Ranges:
    return calibrate(trunk, Samples.of("noise", images(16)), progress=Silent())


LOWERINGS = [
    (Precision.FP32, Dialect.FLOAT_FUSED, 1e-5),
    (Precision.FP16, Dialect.FLOAT, 5e-3),
    (Precision.INT8, Dialect.U8_ASYMMETRIC, 0.1),
    (Precision.INT8, Dialect.S8_SYMMETRIC, 0.1),
]


@pytest.mark.parametrize(("precision", "dialect", "limit"), LOWERINGS)
def test_an_inner_output_keeps_its_name_type_and_numbers(
    trunk: ir.Model, ranges: Ranges, precision: Precision, dialect: Dialect, limit: float
) -> None:
    lowered, reports = lower(trunk, Lowering(precision, dialect, ranges=ranges))
    outputs = lowered.graph.outputs
    assert [value.name for value in outputs] == ["output_0", "output_1"]
    assert {value.dtype for value in outputs} == {ir.DataType.FLOAT}
    expected = run(trunk, {"input": images()})
    for name, found in run(lowered, {"input": images()}).items():
        assert error(found, expected[name]) < limit
    if precision is Precision.INT8:
        assert sum(report.counts["convs"] for report in reports) == 7
    if dialect is Dialect.FLOAT_FUSED:
        assert reports[0].counts["with a residual sum"] == 2


@pytest.mark.parametrize(("precision", "dialect", "limit"), LOWERINGS)
def test_blocks_are_cut_at_an_inner_output(
    trunk: ir.Model, ranges: Ranges, precision: Precision, dialect: Dialect, limit: float
) -> None:
    """Each block is fed with the exact tensor, whatever the lowering calls that."""
    blocks = find_residual_blocks(trunk)
    assert [block.input for block in blocks][1] == "output_0"
    exact = run(trunk, {"input": images()})["output_0"]
    lowered, _ = lower(trunk, Lowering(precision, dialect, ranges=ranges))
    isolate(lowered, [block.input for block in blocks], [block.output for block in blocks])
    assert [value.name for value in lowered.graph.inputs][1:] == ["exact.output_0"]
    first = lowered.graph.inputs[0].name
    stem = np.zeros((2, 8, SIZE, SIZE), np.float32)
    found = run(lowered, {str(first): stem, "exact.output_0": exact})
    expected = run(trunk, {"input": images()})["output_1"]
    assert error(found["output_1"], expected) < limit
    own = str(lowered.graph.outputs[0].name)
    assert error(found[own], exact) > 0.1  # the first block is fed with zeros
