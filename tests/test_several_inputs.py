"""Networks of several inputs from end to end: every precision on the CPU runtimes, and packed."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml

import exporter
from exporter.commands.build import Build
from exporter.measure.timing import Latency
from exporter.measure.worker import eager_run, load_bundle, load_engine, make_batch
from exporter.prove.certificate import Parity
from exporter.runtime import InputError
from exporter.runtime.goldens import goldens_in
from tests.networks import SIZE, RgbDepth, Siamese, seasoned
from tests.pack import served_by_openvino

Array = np.ndarray[Any, Any]

TARGETS = ["ort-cpu", "openvino"]
OPTIONS: dict[str, Any] = {
    "precisions": ["fp32", "fp16", "int8"], "samples": 16, "calibration_samples": 16, "threads": 1
}  # fmt: skip
PICTURES = {"left": (3, SIZE, SIZE), "right": (3, SIZE, SIZE)}
SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "siamese": PICTURES,
    "rgb_depth": RgbDepth.SHAPES,
    "foreign": PICTURES,
}


def tensors(shapes: Mapping[str, tuple[int, ...]], count: int, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        name: random.standard_normal((count, *shape), np.float32) for name, shape in shapes.items()
    }


def siamese_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return seasoned(Siamese(), shapes=[*PICTURES.values()])


@pytest.fixture(scope="module")
def siamese(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Of a pair of pictures, on data of its own."""
    folder = tmp_path_factory.mktemp("builds")
    data = folder / "pairs.npz"
    np.savez(data, **tensors(PICTURES, 40))  # type: ignore[arg-type]
    options = {**OPTIONS, "targets": TARGETS, "measure": False, "data": data}
    return exporter.export(siamese_network(), image_size=SIZE, out=folder / "siamese", **options)


@pytest.fixture(scope="module")
def rgb_depth(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Of a picture, a depth map and a vector, to two outputs, on synthetic data."""
    module = seasoned(RgbDepth(), shapes=[*RgbDepth.SHAPES.values()])
    example = {name: torch.zeros(1, *shape) for name, shape in RgbDepth.SHAPES.items()}
    out = tmp_path_factory.mktemp("builds") / "rgb-depth"
    options = {**OPTIONS, "targets": TARGETS, "measure": False}
    return exporter.export(module, example=example, out=out, **options)


@pytest.fixture(scope="module")
def foreign(siamese: Build, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """An ONNX file whose inputs call their batch differently; measured."""
    folder = tmp_path_factory.mktemp("builds")
    proto = onnx.load(siamese.path / "onnx" / "Siamese.fp32.onnx")
    for value, batch in zip(proto.graph.input, ("N", "M"), strict=True):
        value.type.tensor_type.shape.dim[0].dim_param = batch
    onnx.save(proto, folder / "pairs.onnx")
    options = {**OPTIONS, "targets": ["ort-cpu"], "precisions": ["fp32", "int8"], "rounds": 5}
    return exporter.export(folder / "pairs.onnx", out=folder / "foreign", **options)


@pytest.fixture(params=list(SHAPES))
def build(request: pytest.FixtureRequest) -> Build:
    made: Build = request.getfixturevalue(request.param)
    return made


def test_every_engine_passes(build: Build) -> None:
    assert build.failures == ()
    assert len(build.engines) == (2 if build.manifest.model.kind == "onnx" else 6)
    for engine in build.engines:
        assert isinstance(engine.parity, Parity)
        assert engine.parity.passed
        assert engine.receipt.verdict != "unverified"


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_manifest_and_the_files_list_them(name: str, request: pytest.FixtureRequest) -> None:
    build: Build = request.getfixturevalue(name)
    model = exporter.open_build(build.path).manifest.model
    assert {one.name: one.sample for one in model.inputs} == SHAPES[name]
    proto = onnx.load(build.path / "onnx" / f"{model.name}.fp16.onnx")
    dims = {one.name: one.type.tensor_type.shape.dim for one in proto.graph.input}
    assert list(dims) == list(SHAPES[name])
    assert len({one[0].dim_param for one in dims.values()} - {""}) == 1
    assert {name: tuple(d.dim_value for d in one[1:]) for name, one in dims.items()} == SHAPES[name]


def test_a_manifest_from_before_reads_as_one_of_one_input(siamese: Build, tmp_path: Path) -> None:
    content = json.loads((siamese.path / "manifest.json").read_text())
    del content["model"]["other_inputs"], content["request"]["inputs"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert exporter.open_build(tmp_path).manifest.model.inputs[1:] == ()


def test_data_are_taken_by_name(siamese: Build, rgb_depth: Build) -> None:
    assert siamese.manifest.data.evaluation.source == "pairs.npz, evaluation set"
    assert any("pairs.npz: right: values from" in note for note in siamese.notes)
    assert any("Give an .npz of your own inputs" in note for note in rgb_depth.notes)


def test_goldens_hold_each_and_validate_replays_them(build: Build) -> None:
    model = build.manifest.model
    with np.load(build.path / "golden.npz") as arrays:
        for given in model.inputs:
            assert arrays[f"inputs:{given.name}"].shape == (8, *given.sample)
    assert goldens_in(build.path / "golden.npz").inputs.dtype.names == tuple(
        one.name for one in model.inputs
    )
    found = build.validate(threads=1, blocks=model.name == "RgbDepth")
    assert found.failures == ()
    parities = [replay.parity for replay in found.replays]
    blocks = [len(parity.blocks) for parity in parities if isinstance(parity, Parity)]
    assert blocks == [int(model.name == "RgbDepth")] * len(parities)


def test_a_bundle_takes_them_by_name_and_in_order(siamese: Build, tmp_path: Path) -> None:
    packed = siamese.pack("bundle", tmp_path / "bundle", allow_untrained=True)
    given = tensors(PICTURES, 35, seed=1)
    with torch.inference_mode():
        expected = siamese_network()(*map(torch.from_numpy, given.values())).numpy()
    swapped = {"right": given["right"], "left": given["left"]}
    for identity in siamese:
        off = 0.2 if identity.endswith("int8") else 1e-2
        with exporter.load(packed.path, engine=identity, threads=1) as engine:
            assert list(engine.inputs) == ["left", "right"]
            answers = engine.run(given)
            assert np.linalg.norm(answers - expected) < off * np.linalg.norm(expected)
            for same in (engine.run(swapped), engine(*given.values()), engine(given)):
                np.testing.assert_array_equal(same, answers)
            other = engine.run(given["right"], given["left"])
            assert np.linalg.norm(other - expected) > off * np.linalg.norm(expected)
            none = engine.run({name: one[:0] for name, one in given.items()})
        assert none.shape == (0, 2)
    card = (packed.path / "MODEL_CARD.md").read_text()
    assert all(f"| input | `{name}`" in card for name in PICTURES)


def test_a_call_that_does_not_fit_says_how(rgb_depth: Build, tmp_path: Path) -> None:
    packed = rgb_depth.pack("bundle", tmp_path / "bundle", allow_untrained=True)
    given = tensors(RgbDepth.SHAPES, 2)
    with exporter.load(packed.path, engine="ort-cpu.fp32", threads=1) as engine:
        assert set(engine.run(given)) == {"embedding", "logits"}
        assert "rgb, depth, about" in repr(engine)
        wrong: list[tuple[Any, str]] = [
            ({**given, "mask": given["depth"]}, "takes rgb, depth, about, each once"),
            ({"rgb": given["rgb"]}, "the inputs are rgb; .* takes rgb, depth, about"),
            ({**given, "depth": given["rgb"]}, r"depth has shape .* takes \(N, 1, 16, 16\)"),
            ({**given, "about": given["about"].astype(float)}, "about is of type float64"),
            ({**given, "about": given["about"][:1]}, "different lengths .*about 1"),
            ({**given, "depth": given["depth"] * np.nan}, "depth holds NaN"),
            (given["rgb"], r"1 given; .* takes 3 \(rgb, depth, about\)"),
        ]
        for inputs, message in wrong:
            with pytest.raises(InputError, match=message):
                engine.run(inputs)
        with pytest.raises(InputError, match=r"takes 3 inputs .*call engine\.run with a dict"):
            engine.predict(np.zeros((SIZE, SIZE, 3), np.uint8))


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_triton_is_told_of_each(rgb_depth: Build, tmp_path: Path, backend: str) -> None:
    out = rgb_depth.pack(
        "triton", tmp_path / "out", backend=backend, engines=["ort-cpu.fp32"], allow_untrained=True
    ).path
    config = (out / "RgbDepth" / "config.pbtxt").read_text()
    listed = config.partition("output {")[0].split("input {")[1:]
    assert [part.split('"')[1] for part in listed] == list(RgbDepth.SHAPES)
    assert "dims: [ 1, 16, 16 ]" in listed[1]
    warm_ups = config.partition("model_warmup {")[2]
    assert all(f'key: "{name}"' in warm_ups for name in RgbDepth.SHAPES)
    probe = json.loads((out / "probe.json").read_text())
    assert [(one["name"], *one["shape"]) for one in probe["inputs"]] == [
        (name, 1, *shape) for name, shape in RgbDepth.SHAPES.items()
    ]
    goldens = goldens_in(rgb_depth.path / "golden.npz").inputs
    for one in probe["inputs"]:
        assert (out / one["data"]).read_bytes() == goldens[one["name"]][0].tobytes()
    assert "`depth`, FP32, shape N x 1 x 16 x 16" in (out / "README.md").read_text()


def test_tritons_python_model_batches_each(
    siamese: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = siamese.pack("triton", tmp_path / "out", backend="python", allow_untrained=True).path
    backend = SimpleNamespace(
        Tensor=lambda name, values: (name, values),
        InferenceResponse=lambda tensors=(), error=None: error or dict(tensors),
        TritonError=str,
        Logger=SimpleNamespace(log_info=str),
        get_input_tensor_by_name=lambda asked, name: SimpleNamespace(as_numpy=lambda: asked[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    monkeypatch.setattr(sys, "path", [*sys.path])
    served = runpy.run_path(str(out / "Siamese" / "1" / "model.py"))["TritonPythonModel"]()
    config = {
        "name": "Siamese",
        "input": [{"name": name, "data_type": "TYPE_FP32"} for name in PICTURES],
        "output": [{"name": "logits"}],
        "parameters": {"threads": {"string_value": "1"}},
    }
    served.initialize({"model_config": json.dumps(config)})
    asked = [tensors(PICTURES, count, seed=count) for count in (1, 2)]
    for given, response in zip(asked, served.execute(asked), strict=True):
        (alone,) = served.execute([given])
        np.testing.assert_allclose(response["logits"], alone["logits"], atol=1e-5)
    bad = {**asked[0], "right": asked[0]["right"][:, :, :8]}
    right, wrong = served.execute([asked[0], bad])
    assert right["logits"].shape == (1, 2)
    assert "right has shape" in wrong
    served.finalize()


def test_an_mlflow_model_takes_each_by_name(rgb_depth: Build, tmp_path: Path) -> None:
    out = rgb_depth.pack("mlflow", tmp_path / "out", allow_untrained=True).path
    described = yaml.safe_load((out / "MLmodel").read_text())["signature"]
    inputs, outputs = (json.loads(described[name]) for name in ("inputs", "outputs"))
    assert [(one["name"], *one["tensor-spec"]["shape"]) for one in inputs] == [
        (name, -1, *shape) for name, shape in RgbDepth.SHAPES.items()
    ]
    assert [one["name"] for one in outputs] == ["embedding", "logits"]
    example = json.loads((out / "input_example.json").read_text())
    goldens = goldens_in(rgb_depth.path / "golden.npz").inputs
    for name in RgbDepth.SHAPES:
        np.testing.assert_array_equal(np.float32(example[name]), goldens[name][:1])
    assert (
        'model.predict({"rgb": ..., "depth": ..., "about": ...})' in (out / "README.md").read_text()
    )
    loader = runpy.run_path(str(out / "code" / "exporter_mlflow.py"))
    model = loader["_load_pyfunc"](str(out / "bundle"), {"engine": "ort-cpu.fp32"})
    answers = model.predict({name: goldens[name] for name in RgbDepth.SHAPES})
    assert answers["embedding"].shape == (len(goldens), 16)


def test_openvino_model_server_is_asked_for_each(rgb_depth: Build, tmp_path: Path) -> None:
    out = rgb_depth.pack("ovms", tmp_path / "out", engines=["openvino.int8"], allow_untrained=True)
    assert served_by_openvino.probed(out.path) <= 1
    request = served_by_openvino.golden_request(out.path)
    assert list(request) == list(RgbDepth.SHAPES)
    assert list(served_by_openvino.asked(out.path, request)) == ["embedding", "logits"]


@pytest.mark.parametrize("kind", ["node", "web"])
def test_javascript_takes_one_picture(siamese: Build, tmp_path: Path, kind: str) -> None:
    with pytest.raises(exporter.UsageError, match=r"takes 2 inputs \(left, right\), and the Java"):
        siamese.pack(kind, tmp_path / "out", allow_untrained=True)


def test_engines_are_timed_against_the_file_as_given(foreign: Build) -> None:
    for engine in foreign.engines:
        assert isinstance(engine.latency, Latency)
        assert engine.latency.baseline == "onnxruntime-as-given"


def test_what_is_timed_answers_to_every_input(siamese: Build) -> None:
    job: dict[str, Any] = {
        "inputs": [[name, "float32", list(shape)] for name, shape in PICTURES.items()],
        "seed": 0,
        "threads": 1,
        "target": "ort-cpu",
        "path": str(siamese.path / siamese["ort-cpu.fp32"].path),
    }
    batch = make_batch(2, job)
    assert not np.array_equal(batch["left"], batch["right"])
    answers: Any = load_engine(job)(batch)()
    given = [torch.from_numpy(np.ascontiguousarray(batch[name])) for name in PICTURES]
    eager: Any = eager_run(siamese_network(), *given)()
    np.testing.assert_allclose(answers["logits"], eager.numpy(), rtol=1e-4, atol=1e-5)


def test_a_plan_has_a_profile_of_each(siamese: Build, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel here")
    graph = siamese.path / "onnx" / "Siamese.fp32.onnx"
    build = exporter.export(
        graph, targets="tensorrt-rtx:sm89", precisions="fp16", samples=16, threads=1, measure=False,
        out=tmp_path / "plan",
    )  # fmt: skip
    (engine,) = build.engines
    assert build.failures == ()
    assert engine.receipt.verdict == "fused"
    assert engine.requires["profile"] == "1:8:32"
    assert isinstance(engine.parity, Parity)
    assert engine.parity.scope == "graph"


PAIR = tensors(PICTURES, 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"left": PAIR["left"]}, "holds 'left', Siamese takes 'left', 'right'"),
        ({**PAIR, "third": PAIR["left"]}, "holds 'left', 'right', 'third', Siamese takes"),
        ({**PAIR, "right": PAIR["right"][:3]}, "different numbers of samples: left 4, right 3"),
        ({**PAIR, "right": PAIR["right"][:, :1]}, r"right has shape .* takes \(N, 3, 16, 16\)"),
        ({**PAIR, "left": PAIR["left"] + np.inf}, "left holds a value that is not finite"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    arrays: dict[str, Array], message: str, tmp_path: Path
) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, **arrays)  # type: ignore[arg-type]
    refused(message, tmp_path, data=data)


def refused(message: str, tmp_path: Path, **options: Any) -> None:
    with pytest.raises((exporter.UsageError, exporter.InputError), match=message):
        exporter.export(
            siamese_network(), image_size=SIZE, out=tmp_path / "out", **{**OPTIONS, **options}
        )
    assert not (tmp_path / "out").exists()


def test_what_one_picture_has_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", PAIR["left"])
    (tmp_path / "pictures").mkdir()
    refused("holds one array, Siamese takes left, right", tmp_path, data=tmp_path / "one.npy")
    refused("a folder of pictures gives one", tmp_path, data=tmp_path / "pictures")
    refused("preprocessing is that of one picture", tmp_path, mean=0.5, std=0.5)
    refused(
        "--bake-preprocess concerns models of one picture, and Siamese takes 2",
        tmp_path,
        bake_preprocess=True,
    )


class Unread(Siamese):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return super().forward(left, left)


def test_an_input_that_is_not_read_is_refused(tmp_path: Path) -> None:
    module = seasoned(Unread(), shapes=[*PICTURES.values()])
    with pytest.raises(exporter.InputError, match="does not read its input 'right'; leave it out"):
        exporter.export(module, image_size=SIZE, out=tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()


def test_shapes_are_those_of_modules_alone(tmp_path: Path) -> None:
    with pytest.raises(exporter.UsageError, match="--input concerns modules of your own"):
        exporter.export("resnet20-digits", inputs={"input": (3, 32, 32)}, out=tmp_path / "out")


def test_a_bundle_under_load_takes_each(siamese: Build, tmp_path: Path) -> None:
    packed = siamese.pack("bundle", tmp_path / "bundle", allow_untrained=True)
    job = {"path": str(packed.path), "engine": "ort-cpu.fp32", "threads": 1, "streams": 1}
    answers: Any = load_bundle({**job, "shared": False})(np.empty(3, np.uint8))()
    assert answers.shape == (3, 2)
