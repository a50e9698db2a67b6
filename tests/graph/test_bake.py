"""--bake-preprocess, from the request to what a server sends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from exporter.artifact import Interpolation, Precision, Preprocessing
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.request import ExportRequest
from exporter.commands.benchmark import benchmark_build
from exporter.commands.validate import validate_build
from exporter.errors import UsageError
from exporter.graph.bake import with_images
from exporter.graph.files import save
from exporter.graph.to_onnx import export
from exporter.images.samples import Samples
from exporter.measure.timing import Latency
from exporter.models.from_images import FromImages
from exporter.models.sources import define
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.pipeline import export_model
from exporter.progress import Silent
from exporter.prove.certificate import Parity
from exporter.runtime import load
from tests.packed import baked_build, digits_build

ENGINES = ("ort-cpu.fp32", "ort-cpu.fp16", "ort-cpu.int8")


def manifest_of(build: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((build / "manifest.json").read_text())
    return found


def random_images(count: int = 32) -> np.ndarray:
    """Random pixels: their border is as busy as their middle."""
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_the_manifest_says_what_the_engines_take() -> None:
    manifest = manifest_of(baked_build())
    assert manifest["model"]["input"] == {
        "name": "input", "dtype": "uint8", "shape": ["batch", 32, 32, 3],
    }  # fmt: skip
    assert manifest["request"]["bake_preprocess"] is True
    assert [engine["id"] for engine in manifest["engines"]] == [*ENGINES]
    assert all(engine["parity"]["passed"] for engine in manifest["engines"])
    verdicts = {engine["precision"]: engine["receipt"]["verdict"] for engine in manifest["engines"]}
    assert verdicts == {"fp32": "fused", "fp16": "partial", "int8": "fused"}


def test_the_goldens_are_the_images_of_the_two_step_build() -> None:
    with (
        np.load(baked_build() / "golden.npz") as baked,
        np.load(digits_build() / "golden.npz") as given,
    ):
        assert baked["inputs"].dtype == np.uint8
        exact = (baked["inputs"] / 255.0).transpose(0, 3, 1, 2)
        preprocessing = manifest_of(digits_build())["model"]["preprocessing"]
        mean, std = (np.array(preprocessing[k])[:, None, None] for k in ("mean", "std"))
        assert np.abs((exact - mean) / std - given["inputs"]).max() < 1e-6
        assert np.abs(baked["outputs"] - given["outputs"]).max() < 1e-5


def test_the_portable_graph_stays_as_it_is() -> None:
    name = "onnx/resnet20-digits.fp32.onnx"
    assert (baked_build() / name).read_bytes() == (digits_build() / name).read_bytes()


@pytest.mark.parametrize(
    ("engine", "allowed"), [("ort-cpu.fp32", 1e-5), ("ort-cpu.fp16", 5e-3), ("ort-cpu.int8", 5e-2)]
)
def test_the_same_answers_as_in_two_steps(tmp_path: Path, engine: str, allowed: float) -> None:
    images = random_images()
    answers = []
    for name, build in (("baked", baked_build()), ("given", digits_build())):
        bundle = pack(PackRequest(build, out=tmp_path / name, engines=(engine,)), Silent()).path
        with load(bundle, threads=2) as loaded:
            assert loaded.input_dtype == (np.uint8 if name == "baked" else np.float32)
            assert loaded.image_shape == (32, 32, 3)
            answers.append(loaded(images))
    error = np.linalg.norm(answers[0] - answers[1]) / np.linalg.norm(answers[1])
    assert error < allowed


def test_int8_has_no_float_tensor_at_its_input(tmp_path: Path) -> None:
    import onnxruntime as ort

    engine = next(e for e in manifest_of(baked_build())["engines"] if e["precision"] == "int8")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    wanted = engine["requires"]["session_options"]["disabled_optimizers"]
    ort.InferenceSession(
        baked_build() / engine["path"],
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=set(wanted),
    )
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    before = [node.op_type for node in nodes]
    before = before[: before.index("QLinearConv")]
    assert not {"Cast", "Sub", "Mul", "QuantizeLinear", "DequantizeLinear"} & set(before)


def test_goldens_replay_and_blocks_are_compared(tmp_path: Path) -> None:
    build = Path(shutil.copytree(baked_build(), tmp_path / "build"))
    found = validate_build(build, blocks=True, threads=2, progress=Silent())
    assert found.failures == ()
    assert all(isinstance(r.parity, Parity) and r.parity.passed for r in found.replays)
    for engine in found.manifest.engines:
        assert isinstance(engine.parity, Parity)
        assert len(engine.parity.blocks) == 9
        limit = {"fp32": 2e-6, "fp16": 3e-3, "int8": 0.1}[engine.precision]
        assert all(0 < block.built_up_rel_l2 < limit for block in engine.parity.blocks)


def test_a_build_is_measured_again_on_images(tmp_path: Path) -> None:
    request = ExportRequest(
        targets=("ort-cpu",), precisions=(Precision.INT8,), out=tmp_path / "build",
        samples=8, measure=False, threads=2, bake_preprocess=True,
    )  # fmt: skip
    assert export_model(request, Silent()).manifest.failures == ()
    again = BenchmarkRequest(tmp_path / "build", batches=(2,), threads=2, rounds=5)
    updated = benchmark_build(again, Silent())
    latency = updated.manifest.engines[0].latency
    assert isinstance(latency, Latency)
    assert latency.batch == 2
    assert latency.p50_ms > 0
    assert latency.baseline == "torch-eager"


def test_every_format_takes_a_baked_build(tmp_path: Path) -> None:
    def packed(kind: str, **options: Any) -> Path:
        request = PackRequest(
            baked_build(), format=kind, out=tmp_path / kind, engines=("ort-cpu.fp32",), **options
        )
        return pack(request, Silent()).path

    config = (
        packed("triton", backend="onnxruntime") / "resnet20-digits" / "config.pbtxt"
    ).read_text()
    assert "data_type: TYPE_UINT8\n  dims: [ 32, 32, 3 ]" in config
    contract = json.loads((packed("node") / "model.json").read_text())
    assert (contract["dtype"], contract["layout"]) == ("uint8", "NHWC")
    assert contract["normalisation"] is None
    card = (packed("bundle") / "MODEL_CARD.md").read_text()
    assert "uint8 batch x 32 x 32 x 3" in card
    assert "the engines do it themselves" in card


def test_a_model_of_unknown_preprocessing_is_refused(tmp_path: Path) -> None:
    model = define("resnet20", "random", num_classes=4, image_size=32, progress=Silent())
    path = tmp_path / "given.onnx"
    save(export(model), path)
    for source in (str(path), "torch.nn:Flatten"):
        request = ExportRequest(
            source=source, targets=("ort-cpu",), out=tmp_path / "build", bake_preprocess=True
        )
        with pytest.raises(UsageError, match="--bake-preprocess: how images become the input"):
            export_model(request, Silent())
    assert not (tmp_path / "build").exists()


def test_inputs_that_were_no_images_are_rounded_and_that_is_said() -> None:
    model = define("resnet20", "random", num_classes=4, image_size=32, progress=Silent())
    inputs = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    recorder = Silent()
    taking, samples = with_images(model, Samples.of("noise", inputs), recorder)
    (images,) = samples.batches(2)
    assert any("rounded to 8-bit pixels" in note for note in recorder.notes)
    assert taking.spec.input.shape == ("batch", 32, 32, 3)
    assert images.shape == (2, 32, 32, 3)
    recorder = Silent()
    preprocessing = manifest_of(digits_build())["model"]["preprocessing"]
    assert "mean" in preprocessing
    assert isinstance(taking.module, FromImages)
    normalised = taking.module.mean.numpy(), taking.module.std.numpy()
    exact = ((images.transpose(0, 3, 1, 2) / np.float32(255)) - normalised[0]) / normalised[1]
    _, samples = with_images(model, Samples.of("exact", exact.astype(np.float32)), recorder)
    (again,) = samples.batches(2)
    assert recorder.notes == []
    assert (again == images).all()


def test_the_eager_side_normalises() -> None:
    contract = Preprocessing(
        None, 1, Interpolation.NONE, (0.5, 0.25, 0.0), (0.5, 1.0, 2.0), "a test"
    )
    module = FromImages(torch.nn.Identity(), contract)
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    answer = module(pixels).reshape(-1)
    assert torch.allclose(answer, torch.tensor([-1.0, 0.2 - 0.25, 0.5]))
    assert module.double()(pixels).dtype == torch.float64
