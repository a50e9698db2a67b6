"""Networks of several outputs from end to end: every precision on the CPU runtimes, and packed."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import exporter
from exporter.artifact import Precision, Skipped
from exporter.commands.build import Build
from exporter.measure.worker import load_engine
from exporter.progress import Silent
from exporter.prove.certificate import Parity, Scope
from exporter.prove.engine import check_engine
from exporter.prove.limits import LIMITS
from exporter.prove.reference import read_goldens
from exporter.runtime import InputError
from exporter.runtime.goldens import goldens_in
from exporter.targets import get_target
from tests.foreign import CLASSES as FOREIGN_CLASSES
from tests.foreign import SIDE, resnet, write
from tests.networks import CLASSES, SIZE, Embedder, Pyramid, seasoned

TARGETS = ["ort-cpu", "openvino"]
OPTIONS: dict[str, Any] = {
    "targets": TARGETS, "samples": 16, "calibration_samples": 16, "measure": False, "threads": 1
}  # fmt: skip
PIXELS = {"mean": 0.5, "std": 0.25, "resize": SIZE}


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Of feature maps alone, by the keys of a dict."""
    example = torch.zeros(1, 3, SIZE, SIZE)
    out = tmp_path_factory.mktemp("builds") / "pyramid"
    return exporter.export(seasoned(Pyramid()), example=example, out=out, **OPTIONS)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Of an embedding and logits, by the fields of a dataclass."""
    example = torch.zeros(1, 3, SIZE, SIZE)
    out = tmp_path_factory.mktemp("builds") / "embedder"
    options = {**OPTIONS, **PIXELS}
    return exporter.export(seasoned(Embedder()), example=example, out=out, **options)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """An ONNX file whose last tensors are outputs as well, and a feature map from its middle."""
    folder = tmp_path_factory.mktemp("builds")
    proto = resnet(channels_last=False, head="pytorch", batch="N")
    for name in ("logits", "s1b2_out"):
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    path = write(folder, proto)
    # INT8 is too coarse for its noise.
    options = {**OPTIONS, "precisions": ["fp32", "fp16"], "calibration_samples": 128}
    return exporter.export(path, out=folder / "foreign", **options)


BUILDS = ["pyramid", "embedder", "foreign"]


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest) -> Build:
    made: Build = request.getfixturevalue(request.param)
    return made


def test_every_engine_proves_every_output(build: Build) -> None:
    assert build.failures == ()
    assert {engine.target for engine in build.engines} == set(TARGETS)
    names = [output.name for output in build.manifest.model.outputs]
    for engine in build.engines:
        parity = engine.parity
        assert isinstance(parity, Parity)
        assert parity.passed
        assert [one.name for one in parity.outputs] == names
        assert parity.output in names
        assert all(one.passed and one.limits for one in parity.outputs)


@pytest.mark.parametrize(
    ("name", "outputs", "scores"),
    [
        ("pyramid", [("p2", 8, 8, 8), ("p3", 8, 4, 4)], None),
        ("embedder", [("embedding", 32), ("logits", CLASSES)], 1),
        (
            "foreign",
            [
                ("probabilities", FOREIGN_CLASSES),
                ("logits", FOREIGN_CLASSES),
                ("s1b2_out", 16, SIDE // 2, SIDE // 2),
            ],
            0,
        ),
    ],
)
def test_the_manifest_lists_them(
    name: str,
    outputs: list[tuple[Any, ...]],
    scores: int | None,
    request: pytest.FixtureRequest,
) -> None:
    build: Build = request.getfixturevalue(name)
    model = exporter.open_build(build.path).manifest.model
    assert [(one.name, *one.shape[1:]) for one in model.outputs] == outputs
    assert model.scores == scores
    for engine in build.engines:
        assert isinstance(engine.parity, Parity)
        assert isinstance(engine.parity.top1_agreement, Skipped) == (scores is None)


def test_goldens_hold_each_and_validate_replays_them(build: Build) -> None:
    goldens = goldens_in(build.path / "golden.npz")
    values = sum(
        np.prod([int(size) for size in output.shape[1:]]) for output in build.manifest.model.outputs
    )
    assert goldens.outputs.shape == (8, values)
    found = build.validate(threads=1)
    assert found.failures == ()
    assert all(isinstance(replay.parity, Parity) for replay in found.replays)


def test_the_table_and_the_report_name_the_worst_and_list_each(pyramid: Build) -> None:
    shown = " ".join(repr(pyramid).split())
    assert "the worst of 2 outputs" in shown.replace("│ ", "")
    assert "ort-cpu.fp32: p2 rel_l2" in shown
    page = (pyramid.path / "report.html").read_text()
    assert "The error of each output of each engine" in page
    rows = json.loads((pyramid.path / "report.json").read_text())["engines"]
    assert {row["output"] for row in rows} <= {"p2", "p3"}
    assert {row["top1_agreement"] for row in rows} == {None}


def test_an_engine_that_spoils_one_output_is_rejected(embedder: Build, tmp_path: Path) -> None:
    """The other output stays as it was."""
    model = onnx.load(embedder.path / "onnx" / "Embedder.fp32.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "fc.bias":
            values = onnx.numpy_helper.to_array(tensor) * 1.01 + 1e-3
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "spoilt.onnx")
    target = get_target("ort-cpu")
    proof = check_engine(
        lambda: target.open(tmp_path / "spoilt.onnx", 1),
        read_goldens(embedder.path / "golden.npz", embedder.manifest.model),
        LIMITS[Precision.FP32, True],
        scope=Scope.ENGINE,
        progress=Silent(),
        title="spoilt",
    )
    assert isinstance(proof.parity, Parity)
    assert not proof.parity.passed
    assert [one.passed for one in proof.parity.outputs] == [True, False]


def test_a_bundle_answers_with_each_output_by_name(build: Build, tmp_path: Path) -> None:
    model = build.manifest.model
    packed = build.pack("bundle", tmp_path / "bundle", allow_untrained=True)
    inputs = np.random.default_rng(0).random((3, *model.image_shape), np.float32)
    for identity in build:
        with exporter.load(packed.path, engine=identity, threads=1) as engine:
            answers = engine.run(inputs)
            none = engine.run(inputs[:0])
        for found, count in ((answers, 3), (none, 0)):
            assert {name: values.shape for name, values in found.items()} == {
                output.name: (count, *output.shape[1:]) for output in model.outputs
            }
    card = (packed.path / "MODEL_CARD.md").read_text()
    assert all(f"| output | `{output.name}`" in card for output in model.outputs)


def test_predict_takes_the_scores(embedder: Build, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("".join(f"class {index}\n" for index in range(CLASSES)))
    packed = embedder.pack("bundle", tmp_path / "bundle", labels=names, allow_untrained=True)
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    with exporter.load(packed.path, threads=1) as engine:
        assert engine.labels == tuple(f"class {index}" for index in range(CLASSES))
        best = engine(images)["logits"].argmax(axis=1)
        assert [found[0].index for found in engine.predict(images)] == best.tolist()


def test_features_have_no_labels(pyramid: Build, tmp_path: Path) -> None:
    packed = pyramid.pack("bundle", tmp_path / "bundle", allow_untrained=True)
    with exporter.load(packed.path, threads=1) as engine:
        assert engine.labels == ()
        with pytest.raises(InputError, match=r"features \(p2, p3\) and no scores"):
            engine.predict(np.zeros((SIZE, SIZE, 3), np.uint8))
    labels = tmp_path / "classes.txt"
    labels.write_text("a\n")
    with pytest.raises(exporter.UsageError, match="answers no scores of classes"):
        pyramid.pack("bundle", tmp_path / "again", labels=labels, allow_untrained=True)


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_triton_is_told_of_each(embedder: Build, tmp_path: Path, backend: str) -> None:
    out = embedder.pack(
        "triton", tmp_path / "out", backend=backend, engines=["ort-cpu.fp32"], allow_untrained=True
    ).path
    config = (out / "Embedder" / "config.pbtxt").read_text()
    listed = config.split("output {")[1:]
    assert [part.split('"')[1] for part in listed] == ["embedding", "logits"]
    assert ["label_filename" in part.partition("}")[0] for part in listed] == [False, True]
    assert "dims: [ 32 ]" in listed[0]
    probe = json.loads((out / "probe.json").read_text())
    assert probe["output"] == "logits"
    assert len(probe["expected"]) == CLASSES


@dataclass
class Tensor:
    """Of Triton's Python backend, which is there inside a server alone."""

    name: str
    values: np.ndarray[Any, Any]

    def as_numpy(self) -> np.ndarray[Any, Any]:
        return self.values


@pytest.mark.parametrize("name", ["pyramid", "embedder"])
def test_tritons_python_model_answers_each_request_with_all(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build: Build = request.getfixturevalue(name)
    out = build.pack("triton", tmp_path / "out", backend="python", allow_untrained=True).path
    backend = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=list,
        Logger=SimpleNamespace(log_info=str),
        get_input_tensor_by_name=lambda asked, _name: asked,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    monkeypatch.setattr(sys, "path", [*sys.path])
    model = build.manifest.model
    served = runpy.run_path(str(out / model.name / "1" / "model.py"))["TritonPythonModel"]()
    data_type = "TYPE_FP32" if name == "pyramid" else "TYPE_UINT8"
    config = {
        "name": model.name,
        "input": [{"name": "input", "data_type": data_type}],
        "output": [{"name": output.name} for output in model.outputs],
        "parameters": {"threads": {"string_value": "1"}},
    }
    served.initialize({"model_config": json.dumps(config)})
    shape = model.image_shape if name == "pyramid" else (SIZE, SIZE, 3)
    kind = np.float32 if name == "pyramid" else np.uint8
    asked = [Tensor("input", np.full((count, *shape), 1, kind)) for count in (1, 2)]
    for given, response in zip(asked, served.execute(asked), strict=True):
        assert [(one.name, *one.values.shape) for one in response] == [
            (output.name, len(given.values), *output.shape[1:]) for output in model.outputs
        ]
    served.finalize()


def test_triton_has_no_labels_for_features(pyramid: Build, tmp_path: Path) -> None:
    out = pyramid.pack("triton", tmp_path / "out", allow_untrained=True).path
    assert not (out / "Pyramid" / "labels.txt").exists()
    assert "label_filename" not in (out / "Pyramid" / "config.pbtxt").read_text()
    assert json.loads((out / "probe.json").read_text())["output"] == "p3"  # the smallest


def test_javascript_is_told_of_each(embedder: Build, tmp_path: Path) -> None:
    out = embedder.pack("node", tmp_path / "out", allow_untrained=True).path
    contract = json.loads((out / "model.json").read_text())
    assert contract["outputs"] == [
        {"name": "embedding", "shape": [32]},
        {"name": "logits", "shape": [CLASSES]},
    ]
    assert contract["scores"] == 1
    sample = 3 * SIZE * SIZE * (1 if contract["goldens"]["images"] else 4) + 4 * (32 + CLASSES)
    assert (out / "goldens.bin").stat().st_size == 8 * sample


@pytest.mark.parametrize("target", TARGETS)
def test_all_outputs_are_timed(embedder: Build, target: str) -> None:
    """As eager PyTorch answers with all of them."""
    engine = embedder[f"{target}.fp32"]
    path = str(embedder.path / engine.path)
    place = load_engine({"target": target, "path": path, "threads": 1, "device": "cpu"})
    answers: Any = place(np.zeros((2, 3, SIZE, SIZE), np.float32))()
    assert [answer.shape for answer in answers] == [(2, 32), (2, CLASSES)]
