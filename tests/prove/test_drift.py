"""Drift: the block that loses accuracy is found, and a debug copy that lies is caught."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from exporter.artifact import Precision
from exporter.builds.request import ExportRequest
from exporter.errors import BuildError
from exporter.graph.files import load, save
from exporter.passes.expose_tensors import expose, isolate
from exporter.pipeline import export_model
from exporter.progress import Silent
from exporter.prove import drift


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = ExportRequest(
        targets=("ort-cpu", "openvino"),
        precisions=(Precision.FP32, Precision.INT8),
        out=tmp_path_factory.mktemp("drift") / "digits",
        calibration_samples=32,
        measure=False,
    )
    outcome = export_model(request, Silent())
    assert outcome.failures == ()
    return outcome.folder


def with_drift(folder: Path, engine_id: str) -> list[dict[str, Any]]:
    described = json.loads((folder / "manifest.json").read_text())
    described["engines"] = [e for e in described["engines"] if e["id"] == engine_id]
    assert drift.add_drift(folder, described, 2, Silent()) == []
    blocks: list[dict[str, Any]] = described["engines"][0]["parity"]["blocks"]
    return blocks


@pytest.mark.parametrize("engine", ["ort-cpu.fp32", "openvino.fp32"])
def test_fp32_drifts_by_rounding_alone(build: Path, engine: str) -> None:
    blocks = with_drift(build, engine)
    assert [block["name"] for block in blocks] == [
        f"layer{stage}.{index}" for stage in (1, 2, 3) for index in (0, 1, 2)
    ]
    assert all(block["built_up_rel_l2"] < 1e-5 for block in blocks)
    assert all(block["added_rel_l2"] < 1e-5 for block in blocks)


@pytest.mark.parametrize("engine", ["ort-cpu.int8", "openvino.int8"])
def test_int8_drift_builds_up_and_is_no_smaller_than_what_the_last_block_adds(
    build: Path, engine: str
) -> None:
    blocks = with_drift(build, engine)
    assert all(1e-4 < block["added_rel_l2"] < 0.2 for block in blocks)
    assert all(block["added_rel_l2"] <= block["built_up_rel_l2"] * 1.5 for block in blocks)
    assert blocks[-1]["built_up_rel_l2"] > blocks[0]["added_rel_l2"]


def test_a_planted_error_puts_its_block_first(build: Path, tmp_path: Path) -> None:
    """One convolution's weight scales are off by 4 in the engine's graph."""
    described = json.loads((build / "manifest.json").read_text())
    engine = next(e for e in described["engines"] if e["id"] == "ort-cpu.int8")
    graph = load(build / engine["graph"])
    conv = next(node for node in graph.graph if node.name == "layer2.1.conv1")
    weight = conv.inputs[1]
    assert weight is not None
    dequantize = weight.producer()
    assert dequantize is not None
    assert dequantize.op_type == "DequantizeLinear"
    scale = dequantize.inputs[1]
    assert scale is not None
    assert scale.const_value is not None
    scale.const_value = ir.tensor(scale.const_value.numpy() * np.float32(4), name=scale.name)
    for name in ("onnx", "golden.npz"):
        (tmp_path / name).symlink_to(build / name)
    path = tmp_path / "planted.onnx"
    save(graph, path)
    engine.update(graph="planted.onnx", path="planted.onnx")
    engine["files"] = [
        {"path": "planted.onnx", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    ]
    described["engines"] = [engine]
    assert drift.add_drift(tmp_path, described, 2, Silent()) == []
    blocks = engine["parity"]["blocks"]
    worst = max(blocks, key=lambda block: block["added_rel_l2"])
    assert worst["name"] == "layer2.1"
    others = [block["added_rel_l2"] for block in blocks if block["name"] != "layer2.1"]
    assert worst["added_rel_l2"] > 3 * max(others)


def test_a_debug_copy_that_answers_differently_is_refused(build: Path, tmp_path: Path) -> None:
    described = json.loads((build / "manifest.json").read_text())
    single, byte = (e for e in described["engines"] if e["target"] == "ort-cpu")
    for name in ("onnx", "golden.npz", "engines"):
        (tmp_path / name).symlink_to(build / name)
    single["graph"] = byte["graph"]  # the copy is made of another graph than the engine
    described["engines"] = [single]
    (failure,) = drift.add_drift(tmp_path, described, 2, Silent())
    assert "ort-cpu.fp32: drift: the debug copy of ort-cpu.fp32 answers differently" in failure


def test_the_release_engine_is_untouched(build: Path) -> None:
    before = {p: hashlib.sha256(p.read_bytes()).digest() for p in build.rglob("*") if p.is_file()}
    with_drift(build, "ort-cpu.int8")
    after = {p: hashlib.sha256(p.read_bytes()).digest() for p in build.rglob("*") if p.is_file()}
    assert before == after


def test_what_is_exposed_in_int8_is_what_the_next_layer_reads(build: Path) -> None:
    described = json.loads((build / "manifest.json").read_text())
    engine = next(e for e in described["engines"] if e["id"] == "ort-cpu.int8")
    graph = load(build / engine["graph"])
    report, names = expose(graph, ["layer1.0.relu_1", "layer2.0.relu_1"])
    assert report.fired == 2
    for name in names.values():
        (output,) = (value for value in graph.graph.outputs if value.name == name)
        producer = output.producer()
        assert producer is not None
        assert producer.op_type == "DequantizeLinear"
    with pytest.raises(BuildError, match="no tensor 'layer9'"):
        expose(graph, ["layer9"])


def test_isolated_blocks_read_exact_inputs_alone(build: Path) -> None:
    graph = load(build / "onnx" / "resnet20-digits.fp32.onnx")
    isolate(
        graph,
        {"a": ("relu", "layer1.0.relu_1"), "b": ("layer1.0.relu_1", "layer1.1.relu_1")},
    )
    assert [value.name for value in graph.graph.inputs] == ["exact.relu", "exact.layer1.0.relu_1"]
    assert sum(node.op_type == "Conv" for node in graph.graph) == 4
    assert len(graph.graph.outputs) == 2
    assert not any("fc" in name for name in graph.graph.initializers)
