"""Drift: the block that loses accuracy is found, and a debug copy that lies is caught."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from exporter.artifact import EngineFile, Precision
from exporter.builds import manifest as manifests
from exporter.builds.request import ExportRequest
from exporter.errors import BuildError
from exporter.graph.files import load, save
from exporter.passes.expose_tensors import expose, isolate
from exporter.pipeline import export_model
from exporter.progress import Silent
from exporter.prove.certificate import BlockDrift
from exporter.prove.drift import measure_drift
from exporter.targets import BuildResult
from exporter.targets.ort.cpu import OrtCpu


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
    assert outcome.manifest.failures == ()
    return outcome.folder


def with_drift(folder: Path, engine_id: str) -> tuple[BlockDrift, ...]:
    manifest = manifests.read(folder)
    engine = manifest.engine(engine_id)
    assert engine is not None
    found = measure_drift(folder, [engine], manifest.model, 2, Silent())
    assert found.failures == ()
    return found.blocks[engine_id]


@pytest.mark.parametrize("engine", ["ort-cpu.fp32", "openvino.fp32"])
def test_fp32_drifts_by_rounding_alone(build: Path, engine: str) -> None:
    blocks = with_drift(build, engine)
    assert [block.name for block in blocks] == [
        f"layer{stage}.{index}" for stage in (1, 2, 3) for index in (0, 1, 2)
    ]
    assert all(block.built_up_rel_l2 < 1e-5 for block in blocks)
    assert all(block.added_rel_l2 < 1e-5 for block in blocks)


@pytest.mark.parametrize("engine", ["ort-cpu.int8", "openvino.int8"])
def test_int8_drift_builds_up_and_is_no_smaller_than_what_the_last_block_adds(
    build: Path, engine: str
) -> None:
    blocks = with_drift(build, engine)
    assert all(1e-4 < block.added_rel_l2 < 0.2 for block in blocks)
    assert all(block.added_rel_l2 <= block.built_up_rel_l2 * 1.5 for block in blocks)
    assert blocks[-1].built_up_rel_l2 > blocks[0].added_rel_l2


def test_a_planted_error_puts_its_block_first(build: Path, tmp_path: Path) -> None:
    """One convolution's weight scales are off by 4 in the engine's graph."""
    manifest = manifests.read(build)
    engine = manifest.engine("ort-cpu.int8")
    assert engine is not None
    graph = load(build / engine.built_from)
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
    file = EngineFile("planted.onnx", hashlib.sha256(path.read_bytes()).hexdigest(), 1)
    planted = dataclasses.replace(engine, built_from="planted.onnx", files=(file,))
    found = measure_drift(tmp_path, [planted], manifest.model, 2, Silent())
    assert found.failures == ()
    blocks = found.blocks[planted.id]
    worst = max(blocks, key=lambda block: block.added_rel_l2)
    assert worst.name == "layer2.1"
    others = [block.added_rel_l2 for block in blocks if block.name != "layer2.1"]
    assert worst.added_rel_l2 > 3 * max(others)


def test_a_debug_copy_that_answers_differently_is_refused(build: Path, tmp_path: Path) -> None:
    manifest = manifests.read(build)
    single, byte = (e for e in manifest.engines if e.target == "ort-cpu")
    for name in ("onnx", "golden.npz", "engines"):
        (tmp_path / name).symlink_to(build / name)
    # The copy is made of another graph than the engine.
    mixed = dataclasses.replace(single, built_from=byte.built_from)
    (failure,) = measure_drift(tmp_path, [mixed], manifest.model, 2, Silent()).failures
    assert "ort-cpu.fp32: drift: the debug copy of ort-cpu.fp32 answers differently" in failure


def test_debug_copies_are_allowed_what_the_engine_was(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = []
    honest = OrtCpu.build

    def recorded(target: OrtCpu, *given: Any) -> BuildResult:
        allowed.append(given[-1].allow_fallback)
        return honest(target, *given)

    monkeypatch.setattr(OrtCpu, "build", recorded)
    manifest = manifests.read(build)
    engine = manifest.engine("ort-cpu.fp32")
    assert engine is not None
    for answer in (True, False):
        built = dataclasses.replace(engine, requires={**engine.requires, "allow_fallback": answer})
        measure_drift(build, [built], manifest.model, 2, Silent())
    measure_drift(build, [engine], manifest.model, 2, Silent())
    assert allowed == [True, True, False, False, False, False]


def test_the_release_engine_is_untouched(build: Path) -> None:
    before = {p: hashlib.sha256(p.read_bytes()).digest() for p in build.rglob("*") if p.is_file()}
    with_drift(build, "ort-cpu.int8")
    after = {p: hashlib.sha256(p.read_bytes()).digest() for p in build.rglob("*") if p.is_file()}
    assert before == after


def test_what_is_exposed_in_int8_is_what_the_next_layer_reads(build: Path) -> None:
    manifest = manifests.read(build)
    engine = manifest.engine("ort-cpu.int8")
    assert engine is not None
    graph = load(build / engine.built_from)
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
    isolate(graph, ["relu", "layer1.0.relu_1"], ["layer1.0.relu_1", "layer1.1.relu_1"])
    assert [value.name for value in graph.graph.inputs] == ["exact.relu", "exact.layer1.0.relu_1"]
    assert sum(node.op_type == "Conv" for node in graph.graph) == 4
    assert len(graph.graph.outputs) == 2
    assert not any("fc" in name for name in graph.graph.initializers)
