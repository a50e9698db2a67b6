"""The process that times one engine or the baseline."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from exporter.graph.files import save
from exporter.measure import worker
from exporter.measure.timing import BASELINES
from exporter.measure.worker import eager_run, load_onnx
from tests.graphs import graph


def test_the_baseline_of_an_onnx_file_runs_as_its_words_say(tmp_path: Path) -> None:
    path = tmp_path / "given.onnx"
    save(graph("network (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"), path)
    place = load_onnx({"path": str(path), "threads": 1})
    options = inspect.getclosurevars(place).nonlocals["session"].get_session_options()
    assert BASELINES["onnxruntime-as-given"].words.endswith("all optimizations on")
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL


class Doubling(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2).flatten(1)


class Centring(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x -= 0.5
        return x.sum(1)


class Marking(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x[:, 0] = x[:, 0] + 1
        return x.amax((2, 3))


@pytest.mark.parametrize("module", [Doubling(), Centring(), Marking(), nn.Flatten()])
def test_each_round_times_eager_on_the_same_numbers(module: nn.Module) -> None:
    """Doubled in place round after round, an image would soon be infinite."""
    batch = np.ones((1, 3, 4, 4), np.float32)
    run = eager_run(module, torch.from_numpy(batch))
    first = run()
    assert isinstance(first, torch.Tensor)
    kept = first.clone()
    for _ in range(3):
        again = run()
        assert isinstance(again, torch.Tensor)
        assert torch.equal(again, kept)
    assert (batch == 1).all()


def test_inputs_are_seeded_and_of_the_models_type() -> None:
    a, b = (worker.make_input((2, 3, 4, 4), "float32", seed) for seed in (0, 1))
    assert a.dtype == np.float32
    assert a.shape == (2, 3, 4, 4)
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(a, worker.make_input((2, 3, 4, 4), "float32", 0))
    pixels = worker.make_input((2, 32, 32, 3), "uint8", 0)
    assert pixels.dtype == np.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)
