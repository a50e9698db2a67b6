"""The MLflow model without MLflow: its files, and the loader that MLflow calls.

MLflow itself logs, loads and serves it in `tests/serving`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from exporter.builds import manifest as manifests
from exporter.errors import UsageError
from exporter.pack.mlflow import LOADER, _requirements
from exporter.pack.packable import Release
from exporter.runtime.goldens import goldens_in
from tests.pack.test_bundle import tree
from tests.packed import digits_build, digits_bundle, edited_build, pack_build, resum

ASK = f"""
import sys
folder, engine = sys.argv[1:]
sys.path.insert(0, folder + "/code")  # as MLflow does
import numpy as np, {LOADER} as loader
model = loader._load_pyfunc(folder + "/bundle", {{"engine": engine, "threads": 1, "device": None}})
import exporter
assert exporter.__file__.startswith(folder), exporter.__file__
with np.load(folder + "/bundle/golden.npz") as goldens:
    answers = model.predict(goldens["images"], params=None)
    print(np.abs(answers - goldens["answers:" + engine]).max(), model.engine.threads)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_build(digits_build(), tmp_path_factory.mktemp("mlflow") / "out", format="mlflow")


def described(model: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((model / "MLmodel").read_text())
    return found


def ask(model: Path, engine: str) -> subprocess.CompletedProcess[str]:
    """The loader in a Python that has none of this project on its path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", ASK, model, engine],
        cwd=model.parent,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_files_of_a_model(model: Path) -> None:
    assert {path.name for path in model.iterdir()} == {
        "MLmodel", "README.md", "SHA256SUMS", "bundle", "code", "conda.yaml",
        "input_example.json", "python_env.yaml", "register.py", "requirements.txt",
        "serving_input_example.json",
    }  # fmt: skip
    assert tree(model / "bundle") == tree(digits_bundle())
    flavour = described(model)["flavors"]["python_function"]
    assert (model / flavour["data"] / "golden.npz").is_file()
    assert (model / flavour["code"] / f"{flavour['loader_module']}.py").is_file()
    for file in flavour["env"].values():
        assert (model / file).is_file()


def test_the_signature_is_of_images_and_scores(model: Path) -> None:
    signature = described(model)["signature"]
    assert json.loads(signature["inputs"]) == [
        {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, 32, 32, 3]}}
    ]
    assert json.loads(signature["outputs"]) == [
        {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 10]}}
    ]
    example = json.loads((model / "input_example.json").read_text())
    goldens = goldens_in(model / "bundle" / "golden.npz")
    assert goldens.images is not None
    np.testing.assert_array_equal(np.uint8(example), goldens.images[:1])
    assert json.loads((model / "serving_input_example.json").read_text()) == {"inputs": example}


@pytest.mark.parametrize("engine", ["ort-cpu.fp32", "ort-cpu.int8"])
def test_the_loader_proves_the_bundle_and_answers(model: Path, engine: str) -> None:
    done = ask(model, engine)
    assert done.returncode == 0, done.stderr
    distance, _, threads = done.stdout.strip().partition(" ")
    assert float(distance) < 1e-3
    assert threads == "1 thread"


@pytest.mark.parametrize(
    ("file", "said"),
    [("engines/ort-cpu/fp32.onnx", "is not the file"), ("golden.npz", "golden.npz")],
)
def test_an_altered_model_does_not_load(model: Path, tmp_path: Path, file: str, said: str) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    path = copy / "bundle" / file
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    done = ask(copy, "ort-cpu.fp32")
    assert done.returncode == 1
    assert "BundleError" in done.stderr
    assert said in done.stderr


def test_wrong_answers_do_not_load(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    path = copy / "bundle" / "golden.npz"
    with np.load(path) as arrays:
        changed = dict(arrays)
    changed["answers:ort-cpu.fp32"] += 1
    np.savez(path, **changed)
    resum(copy / "bundle")
    done = ask(copy, "ort-cpu.fp32")
    assert done.returncode == 1
    assert "GoldenError: engine ort-cpu.fp32 does not answer the golden inputs" in done.stderr


def test_the_same_build_packs_to_the_same_bytes(model: Path, tmp_path: Path) -> None:
    again = pack_build(digits_build(), tmp_path / "again", format="mlflow")
    assert tree(again) == tree(model)


def test_what_is_installed_is_what_it_was_proved_with(model: Path) -> None:
    versions = manifests.read(digits_build()).host.versions
    wanted = ["mlflow>=3", *(f"{name}=={versions[name]}" for name in ("numpy", "onnxruntime"))]
    assert (model / "requirements.txt").read_text().split() == wanted
    conda = yaml.safe_load((model / "conda.yaml").read_text())
    assert conda["dependencies"][-1] == {"pip": wanted}
    python = described(model)["flavors"]["python_function"]["python_version"]
    assert conda["dependencies"][0] == f"python={python}" == f"python={versions['python']}"
    environment = yaml.safe_load((model / "python_env.yaml").read_text())
    assert environment == {"python": python, "dependencies": ["-r requirements.txt"]}


def test_the_library_for_gpus_has_that_for_cpus_in_it() -> None:
    manifest = manifests.read(digits_build())
    first, *_ = manifest.engines
    cuda = replace(first, target="ort-cuda", requires={"versions": {"onnxruntime": "1.31.0"}})
    for engines in ((first, cuda), (cuda, first)):
        release = Release(Path(), manifest.only(engines), *[None] * 4)  # type: ignore[arg-type]
        _, _, library = _requirements(release)
        assert library == "onnxruntime-gpu[cuda,cudnn]==1.31.0"


def test_what_nothing_here_runs_is_refused(tmp_path: Path) -> None:
    def plans(manifest: dict[str, Any]) -> None:
        for engine in manifest["engines"]:
            engine["target"] = "tensorrt"

    build = edited_build(tmp_path, plans)
    with pytest.raises(UsageError, match=r"runs ort-cpu or .*; export it with --target ort-cpu"):
        pack_build(build, tmp_path / "out", format="mlflow")
    assert not (tmp_path / "out").exists()


def test_nothing_that_is_shown_or_shipped_reports_to_mlflows_makers(model: Path) -> None:
    """MLflow reads the variable when it is imported."""
    shell, python = re.findall(r"```(?:python)?\n(.*?)```", (model / "README.md").read_text(), re.S)
    assert shell.startswith("export MLFLOW_DISABLE_TELEMETRY=true")
    assert shell.count("--host 127.0.0.1") == shell.count(" --port ") == 2
    assert "import mlflow" in python
    register = (model / "register.py").read_text()
    assert register.index('"MLFLOW_DISABLE_TELEMETRY", "true"') < register.index("import mlflow")
    assert "import mlflow" not in (model / "code" / f"{LOADER}.py").read_text()
