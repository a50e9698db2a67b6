"""The process that times one engine or the baseline."""

from __future__ import annotations

import inspect
from pathlib import Path

import onnxruntime as ort

from exporter.graph.files import save
from exporter.measure.interleaved import OnnxBaseline
from exporter.measure.worker import load_onnx
from tests.graphs import graph


def test_the_baseline_of_an_onnx_file_runs_as_its_words_say(tmp_path: Path) -> None:
    path = tmp_path / "given.onnx"
    save(graph("network (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"), path)
    place = load_onnx({"path": str(path), "threads": 1})
    options = inspect.getclosurevars(place).nonlocals["session"].get_session_options()
    assert OnnxBaseline.words.endswith("all optimizations on")
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
