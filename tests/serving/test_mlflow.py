"""A real MLflow: the packed model logged to its server, loaded from there and served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import exporter
from exporter.runtime.goldens import Goldens, goldens_in
from tests.networks import RgbDepth, seasoned
from tests.packed import digits_build, pack_build
from tests.serving.environment import needs_mlflow
from tests.serving.mlflow_server import Server, environment, run_client, scoring, tracking

pytestmark = [pytest.mark.serving, needs_mlflow, pytest.mark.timeout(600)]

MODEL = "resnet20-digits"
ENGINE = "ort-cpu.int8"
URI = f"models:/{MODEL}/1"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_build(digits_build(), tmp_path_factory.mktemp("model") / "out", format="mlflow")


@pytest.fixture(scope="module")
def goldens(model: Path) -> Goldens:
    return goldens_in(model / "bundle" / "golden.npz")


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A tracking server on which register.py has put the model, telemetry not mentioned."""
    with tracking(tmp_path_factory.mktemp("tracking")) as started:
        given = {**started.environment}
        del given["MLFLOW_DISABLE_TELEMETRY"]
        told = run_client(model.parent, given, "register", model / "register.py", MODEL)
        assert told == {"telemetry": False}
        yield started


@pytest.fixture(scope="module")
def served(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("scoring")
    given = {
        **server.environment,
        "MLFLOW_PYFUNC_INFERENCE_CONFIG": f'{{"engine": "{ENGINE}", "threads": 1}}',
    }
    with scoring(folder, URI, given) as started:
        yield started


def test_it_is_loaded_from_the_server_and_answers_the_goldens(
    server: Server, model: Path, tmp_path: Path
) -> None:
    file = model / "bundle" / "golden.npz"
    found = run_client(tmp_path, server.environment, "replay", URI, file, ENGINE)
    assert found["distance"] < 1e-5
    assert found["example"] < 1e-5
    assert found["dtype"] == "float32"
    assert "[-1, 32, 32, 3]" in found["signature"]["inputs"]
    assert ENGINE in found["metadata"]["engines"]
    assert len(found["refused"]) == 2
    assert "does not match expected shape (-1, 32, 32, 3)" in found["refused"][0]


def test_it_is_served_and_answers_the_goldens(served: Server, goldens: Goldens) -> None:
    assert goldens.images is not None
    answers = np.array(served.ask(goldens.images.tolist()))
    np.testing.assert_allclose(answers, goldens.answers[ENGINE], atol=1e-5)
    assert (answers.argmax(1) == goldens.outputs.argmax(1)).all()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([[1, 2]], "does not match expected shape"),
        ([[[[300, 0, 0]] * 32] * 32], "uint8"),
        ({"images": [1]}, "un-named"),
    ],
    ids=["a wrong size", "no pixel", "a name"],
)
def test_what_is_no_picture_is_refused_and_harms_nothing(
    served: Server, goldens: Goldens, inputs: object, said: str
) -> None:
    code, text = served.ask(inputs)
    assert code == 400
    assert said in text
    test_it_is_served_and_answers_the_goldens(served, goldens)


def test_the_example_is_a_request(served: Server, model: Path) -> None:
    request = json.loads((model / "serving_input_example.json").read_text())
    assert len(served.ask(request["inputs"])) == 1


def test_an_altered_model_is_not_loaded_and_not_served(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    engine = copy / "bundle" / "engines" / "ort-cpu" / "int8.onnx"
    contents = bytearray(engine.read_bytes())
    contents[len(contents) // 2] ^= 1
    engine.write_bytes(contents)
    given = environment(tmp_path / "home", MLFLOW_DISABLE_TELEMETRY="true")
    failed = run_client(tmp_path, given, "replay", copy, copy / "bundle" / "golden.npz", ENGINE)
    assert "BundleError" in failed
    with pytest.raises(AssertionError, match="BundleError"), scoring(tmp_path, str(copy), given):
        pass


def test_several_inputs_and_outputs_by_name(tmp_path: Path) -> None:
    module = seasoned(RgbDepth(), shapes=[*RgbDepth.SHAPES.values()])
    build = exporter.export(
        module,
        example={name: torch.zeros(1, *shape) for name, shape in RgbDepth.SHAPES.items()},
        out=tmp_path / "build",
        targets=["ort-cpu"],
        precisions=["fp32"],
        samples=16,
        measure=False,
    )
    packed = build.pack("mlflow", tmp_path / "model", allow_untrained=True).path
    found = goldens_in(packed / "bundle" / "golden.npz")
    inputs = {name: found.inputs[name].tolist() for name in RgbDepth.SHAPES}
    given = environment(tmp_path / "home")
    with scoring(tmp_path, str(packed), given) as server:
        answers = server.ask(inputs)
    assert list(answers) == ["embedding", "logits"]
    rows = np.concatenate([np.array(answers[name]) for name in answers], axis=1)
    np.testing.assert_allclose(rows, found.answers["ort-cpu.fp32"], atol=1e-5)
