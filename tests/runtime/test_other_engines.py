"""The runtime on what is less common: OpenVINO's engines, and engines whose batch is fixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from exporter.artifact import Precision
from exporter.builds.request import ExportRequest
from exporter.images.embedded import DIGITS
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.pipeline import export_model
from exporter.progress import Silent
from exporter.runtime import InputError, load
from tests.graphs import Array
from tests.packed import digits_build
from tests.runtime.crowd import wrong_answers

BATCH = 4


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normalised digits to calibrate and to evaluate on."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, input=DIGITS.normalise(DIGITS.splits()[1].images[:64]))
    return path


def export(folder: Path, tensors: Path, **options: Any) -> Path:
    request = ExportRequest(
        precisions=(Precision.FP32, Precision.INT8),
        data=tensors,
        out=folder / "build",
        measure=False,
        threads=2,
        **options,
    )
    outcome = export_model(request, Silent())
    assert outcome.manifest.failures == ()
    return outcome.folder


def bundle_of(build: Path) -> Path:
    return pack(PackRequest(build, out=build.parent / "bundle"), Silent()).path


@pytest.fixture(scope="module", params=[False, True], ids=["tensors", "images"])
def openvino_bundle(
    request: pytest.FixtureRequest, tensors: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("openvino")
    return bundle_of(export(folder, tensors, targets=("openvino",), bake_preprocess=request.param))


def goldens_of(bundle: Path, engine: str) -> tuple[Array, Array]:
    """(images, the engine's own answers)."""
    with np.load(bundle / "golden.npz") as goldens:
        return goldens["images"], goldens[f"answers:{engine}"]


@pytest.mark.parametrize("name", ["openvino.fp32", "openvino.int8"])
def test_openvino_serves_any_batch_from_sixteen_threads(openvino_bundle: Path, name: str) -> None:
    images, expected = goldens_of(openvino_bundle, name)
    with load(openvino_bundle, engine=name, threads=2) as engine:
        for count in (0, 1, 7, 33, 70):
            answers = engine(np.resize(images, (count, *images.shape[1:])))
            assert np.abs(answers - np.resize(expected, (count, 10))).max(initial=0) < 1e-4
        assert wrong_answers(engine, images, expected, calls=10) == []


def test_an_openvino_answer_outlives_the_next_call(openvino_bundle: Path) -> None:
    images, _ = goldens_of(openvino_bundle, "openvino.fp32")
    with load(openvino_bundle, engine="openvino.fp32", threads=1) as engine:
        first = engine(images[:1])
        kept = first.copy()
        engine(images[1:2])
        assert (first == kept).all()


@pytest.fixture(scope="module")
def fixed_bundle(tensors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an ONNX file whose batch is BATCH; how images become its input is not known."""
    folder = tmp_path_factory.mktemp("fixed")
    model = onnx.load(digits_build() / "onnx" / "resnet20-digits.fp32.onnx")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        value.type.tensor_type.shape.dim[0].dim_value = BATCH
    onnx.save(model, folder / "fixed.onnx")
    build = export(
        folder, tensors, source=str(folder / "fixed.onnx"), targets=("ort-cpu", "openvino")
    )
    assert json.loads((build / "manifest.json").read_text())["model"]["input"]["shape"][0] == BATCH
    return bundle_of(build)


@pytest.mark.parametrize("target", ["ort-cpu", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_fixed_batch_is_filled_up(fixed_bundle: Path, target: str, precision: str) -> None:
    name = f"{target}.{precision}"
    with np.load(fixed_bundle / "golden.npz") as goldens:
        inputs, expected = goldens["inputs"], goldens[f"answers:{name}"]
    with load(fixed_bundle, engine=name, threads=2) as engine:
        assert engine.input_shape[0] == BATCH
        for count in (0, 1, 3, 4, 5, 8):
            answers = engine.run(inputs[:count])
            assert answers.shape == (count, 10)
            assert np.abs(answers - expected[:count]).max(initial=0) < 1e-4
        with pytest.raises(InputError, match="came with no preprocessing"):
            engine(np.zeros((1, 32, 32, 3), np.uint8))


def test_triton_is_told_of_the_fixed_batch(fixed_bundle: Path, tmp_path: Path) -> None:
    request = PackRequest(
        fixed_bundle.parent / "build",
        format="triton",
        backend="onnxruntime",
        engines=("ort-cpu.fp32",),
        out=tmp_path / "models",
    )
    config = (pack(request, Silent()).path / "fixed" / "config.pbtxt").read_text()
    assert "max_batch_size: 0\n" in config
    assert f"dims: [ {BATCH}, 3, 32, 32 ]" in config
