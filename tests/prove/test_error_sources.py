"""The block that an error was planted in comes first, with what is odd about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from exporter.artifact import Dialect, ModelSpec, Precision
from exporter.builds import manifest as manifests
from exporter.builds.request import ExportRequest
from exporter.graph.files import load, save
from exporter.graph.lower import Lowering, lower
from exporter.images.samples import Samples, open_data
from exporter.passes.switch_quantization import Part
from exporter.passes.values import constant
from exporter.pipeline import export_model
from exporter.progress import Silent
from exporter.prove.drift import Place
from exporter.prove.error_sources import BlockError, error_sources
from exporter.quantize.calibrate import calibrate
from tests.graphs import Array
from tests.samples import samples_of

BLOCK = "layer2.1"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = ExportRequest(
        targets=("ort-cpu",),
        precisions=(Precision.INT8,),
        out=tmp_path_factory.mktemp("errors") / "digits",
        calibration_samples=16,
        samples=16,
        correction="none",
        measure=False,
    )
    return export_model(request, Silent()).folder


@pytest.fixture(scope="module")
def spec(build: Path) -> ModelSpec:
    return manifests.read(build).model


@pytest.fixture(scope="module")
def calibration(spec: ModelSpec) -> Samples:
    return open_data(spec, None).calibration.take(16)


def lowered_graph(build: Path) -> ir.Model:
    engine = manifests.read(build).engine("ort-cpu.int8")
    assert engine is not None
    return load(build / engine.built_from)


def sources(
    build: Path, spec: ModelSpec, lowered: ir.Model, folder: Path
) -> tuple[BlockError, ...]:
    path = folder / "planted.onnx"
    save(lowered, path)
    return error_sources(spec, path, Place(build, folder, 1, spec.input.shape[0]))


def array(value: ir.Value | None) -> Array:
    found = constant(value)
    assert found is not None
    return found


def node_named(graph: ir.Model, name: str) -> ir.Node:
    return next(node for node in graph.graph if node.name == name)


def set_array(value: ir.Value | None, numbers: Array) -> None:
    assert value is not None
    value.const_value = ir.tensor(numbers.astype(np.float32), name=value.name)


def test_a_healthy_engine_has_nothing_odd_and_its_parts_are_smaller_than_the_whole(
    build: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    blocks = sources(build, spec, lowered_graph(build), tmp_path)
    assert len(blocks) == 11  # stem and head
    assert [block.own_rel_l2 for block in blocks] == sorted(
        (block.own_rel_l2 for block in blocks), reverse=True
    )
    for block in blocks:
        assert block.oddities == ()
        assert block.mend == f"keep it in float: --keep {','.join(block.keep)}"
        assert block.name in (*block.keep, "stem", "head")
        assert 0 < block.parts[Part.BIASES] < block.parts[Part.WEIGHTS] < block.own_rel_l2
        together = float(np.linalg.norm(list(block.parts.values())))
        assert together == pytest.approx(block.own_rel_l2, rel=0.2)  # they are independent
        assert sum(carrier.share for carrier in block.channels) <= 1


def test_weights_that_were_scaled_after_calibration_come_first(
    build: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    graph = lowered_graph(build)
    weight = node_named(graph, f"{BLOCK}.conv1").inputs[1]
    assert weight is not None
    pair = weight.producer()
    assert pair is not None
    set_array(pair.inputs[1], array(pair.inputs[1]) * 4)
    first, *others = sources(build, spec, graph, tmp_path)
    assert first.name == BLOCK
    assert max(first.parts, key=lambda part: first.parts[part]) is Part.WEIGHTS
    assert "layer2.1.conv1 are 300% away from the network's" in first.oddities[0]
    assert "export the network that is meant again" in first.mend
    assert all(block.oddities == () for block in others)


@pytest.mark.parametrize(("unit", "layer"), [("stem", "conv1"), ("head", "fc")])
def test_the_first_and_the_last_layer_are_measured_as_blocks_are(
    build: Path, spec: ModelSpec, tmp_path: Path, unit: str, layer: str
) -> None:
    graph = lowered_graph(build)
    weight = node_named(graph, layer).inputs[1]
    assert weight is not None
    pair = weight.producer()
    assert pair is not None
    set_array(pair.inputs[1], array(pair.inputs[1]) * 4)
    first, *others = sources(build, spec, graph, tmp_path)
    assert first.name == unit
    assert layer in first.keep
    assert f"the weights of {layer} are 300% away" in first.oddities[0]
    assert all(block.oddities == () for block in others)


def test_a_range_of_the_networks_input_is_the_stems(
    build: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    graph = lowered_graph(build)
    quantize = next(n for n in graph.graph.inputs[0].consumers() if n.op_type == "QuantizeLinear")
    for pair in (quantize, *quantize.outputs[0].consumers()):
        set_array(pair.inputs[1], array(pair.inputs[1]) / 8)
    first, *others = sources(build, spec, graph, tmp_path)
    assert first.name == "stem"
    assert max(first.parts, key=lambda part: first.parts[part]) is Part.ACTIVATIONS
    assert "values of input are clipped" in first.oddities[0]
    assert all(block.oddities == () for block in others)


def test_a_channel_with_an_outlier_comes_first_and_is_named(
    build: Path, spec: ModelSpec, calibration: Samples, tmp_path: Path
) -> None:
    """One channel between two convolutions is 100 times as large; the network answers the same."""
    portable = load(build / "onnx" / f"{spec.name}.fp32.onnx")
    before, after = (node_named(portable, f"{BLOCK}.{name}") for name in ("conv1", "conv2"))
    for value, place in (
        (before.inputs[1], np.s_[5]),
        (before.inputs[2], np.s_[5]),
        (after.inputs[1], np.s_[:, 5]),
    ):
        numbers = array(value).copy()
        numbers[place] *= 0.01 if value is after.inputs[1] else 100
        set_array(value, numbers)
    planted = tmp_path / "build"
    (planted / "onnx").mkdir(parents=True)
    save(portable, planted / "onnx" / f"{spec.name}.fp32.onnx")
    (planted / "golden.npz").symlink_to(build / "golden.npz")
    ranges = calibrate(portable, calibration, progress=Silent())
    graph, _ = lower(portable, Lowering(Precision.INT8, Dialect.U8_ASYMMETRIC, ranges=ranges))
    first, *_ = sources(planted, spec, graph, tmp_path)
    assert first.name == BLOCK
    assert max(first.parts, key=lambda part: first.parts[part]) is Part.ACTIVATIONS
    assert f"channel 5 of {BLOCK}.relu reaches" in first.oddities[0]
    assert first.mend == f"keep it in float: --keep {BLOCK}"


@pytest.mark.parametrize(("brightness", "odd"), [(0.05, "clipped"), (20.0, "never used")])
def test_a_range_of_the_wrong_images_comes_first(
    build: Path,
    spec: ModelSpec,
    calibration: Samples,
    tmp_path: Path,
    brightness: float,
    odd: str,
) -> None:
    portable = load(build / "onnx" / f"{spec.name}.fp32.onnx")
    images = np.concatenate(list(calibration.batches(16)))
    wrong = samples_of((images * brightness).astype(np.float32))
    right, other = (calibrate(portable, data, progress=Silent()) for data in (calibration, wrong))
    tensor = f"{BLOCK}.relu"
    mixed = replace(right, tensors={**right.tensors, tensor: other.of(tensor)})
    graph, _ = lower(portable, Lowering(Precision.INT8, Dialect.U8_ASYMMETRIC, ranges=mixed))
    first, *_ = sources(build, spec, graph, tmp_path)
    assert first.name == BLOCK
    assert max(first.parts, key=lambda part: first.parts[part]) is Part.ACTIVATIONS
    assert odd in first.oddities[0]
    assert tensor in first.oddities[0]
    assert first.mend == "calibrate on images like those that are served (--data)"
