"""The repository for OpenVINO Model Server: its schema, and OpenVINO itself on what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from exporter.artifact import Precision
from exporter.builds.request import ExportRequest
from exporter.errors import UsageError
from exporter.pipeline import export_model
from exporter.progress import Silent
from tests.pack import served_by_openvino as server
from tests.pack.ovms_schema import SCHEMA
from tests.packed import digits_build, measured, pack_build

MODEL = "resnet20-digits"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits for OpenVINO; not measured."""
    request = ExportRequest(
        targets=("openvino",),
        precisions=(Precision.FP32, Precision.FP16),
        samples=16,
        out=tmp_path_factory.mktemp("ovms") / "build",
        measure=False,
        threads=2,
    )
    outcome = export_model(request, Silent())
    assert outcome.manifest.failures == ()
    return outcome.folder


@pytest.fixture(scope="module")
def repository(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_build(build, tmp_path_factory.mktemp("packed") / "ovms", format="ovms")


def edited(build: Path, folder: Path, edit: Any) -> Path:
    """A copy of the build with another manifest, packed."""
    copy = Path(shutil.copytree(build, folder / "build"))
    manifest = json.loads((copy / "manifest.json").read_text())
    edit(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return pack_build(copy, folder / "ovms", format="ovms")


def point(streams: int, threads: int, batch: int, rate: float, processes: int = 1) -> Any:
    return {
        "engine": "openvino.fp32", "processes": processes, "streams": streams, "threads": threads,
        "batch": batch, "images_per_s": rate, "p50_ms": 21.0, "p99_ms": 24.0, "rounds": 30,
        "gain": {"median": 1.2, "ci95": [1.1, 1.3]}, "best": False,
    }  # fmt: skip


def test_the_files_of_a_repository(repository: Path, build: Path) -> None:
    files = {path.relative_to(repository).as_posix() for path in repository.rglob("*.*")}
    assert files == {
        "MODEL_CARD.md", "README.md", "config.json", "labels.txt", "probe.json", "probe.py",
        "sbom.cdx.json", f"{MODEL}/1/model.bin", f"{MODEL}/1/model.xml",
    }  # fmt: skip
    assert len((repository / "labels.txt").read_text().split()) == 10
    packed = (repository / MODEL / "1" / "model.bin").read_bytes()
    assert packed == (build / "engines" / "openvino" / "fp32.bin").read_bytes()
    assert "openvino.fp32" in (repository / "MODEL_CARD.md").read_text()


def test_the_config_fits_the_servers_schema_and_names_the_repository(repository: Path) -> None:
    model = server.model_config(repository)
    assert model["name"] == model["base_path"] == MODEL
    assert model["target_device"] == "CPU"  # else it takes a GPU where there is one
    assert (repository / model["base_path"]).is_dir()


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda model: model.update(nireq="2"), "nireq"),
        (lambda model: model.pop("name"), "name"),
        (lambda model: model.update(streams=2), "streams"),
        (lambda model: model["plugin_config"].update(NUM_STREAMS=[2]), "NUM_STREAMS"),
    ],
)
def test_the_schema_finds_what_is_wrong(repository: Path, edit: Any, what: str) -> None:
    config = json.loads((repository / "config.json").read_text())
    edit(config["model_config_list"][0]["config"])
    with pytest.raises(jsonschema.ValidationError, match=what):
        jsonschema.validate(config, SCHEMA)


@pytest.mark.parametrize("engine", ["openvino.fp32", "openvino.fp16"])
def test_openvino_computes_the_goldens_as_the_config_says(
    build: Path, tmp_path: Path, engine: str
) -> None:
    repository = pack_build(build, tmp_path / "ovms", format="ovms", engines=(engine,))
    assert server.probed(repository) <= 1
    # In f16 a CPU with BF16 and no FP16 would compute the FP16 engine in BF16.
    compiled = server.compiled(repository)
    assert str(compiled.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"
    assert compiled.get_property("NUM_STREAMS") == 1
    images = np.zeros((3, 3, 32, 32), np.float32)
    assert server.asked(repository, {"input": images})["logits"].shape == (3, 10)


def test_the_probe_tells_a_wrong_answer(repository: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "copy"))
    probe = json.loads((copy / "probe.json").read_text())
    probe["expected"] = probe["expected"][1:] + probe["expected"][:1]
    (copy / "probe.json").write_text(json.dumps(probe))
    assert server.probed(copy) > 1


def test_streams_and_threads_are_the_best_of_one_process(build: Path, tmp_path: Path) -> None:
    """What several processes answered is no guide: the server is one."""

    def loaded(manifest: dict[str, Any]) -> None:
        manifest["throughput"] = {
            "cores": 4, "callers": 4, "round_s": 0.5, "max_p99_ms": None, "left_out": {},
            "points": [point(1, 4, 1, 70.0), point(4, 1, 8, 90.0), point(1, 1, 8, 99.0, 4)],
        }  # fmt: skip

    repository = edited(build, tmp_path, loaded)
    model = server.model_config(repository)
    assert (model["nireq"], model["plugin_config"]["NUM_STREAMS"]) == (4, "4")
    assert model["plugin_config"]["INFERENCE_NUM_THREADS"] == 4
    assert "90 images/s" in (repository / "README.md").read_text()
    server.compiled(repository)


def test_the_fastest_engine_that_the_server_computes_as_proved(build: Path, tmp_path: Path) -> None:
    def timed(manifest: dict[str, Any]) -> None:
        measured(manifest, fp32={1: 3.0}, fp16={1: 1.0})

    packed = edited(build, tmp_path, timed)
    assert "* Served: openvino.fp16, " in (packed / "README.md").read_text()


def test_another_runtimes_engine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        pack_build(digits_build(), tmp_path / "out", format="ovms", engines=("ort-cpu.fp32",))
    said = str(raised.value)
    assert "ort-cpu.fp32: proved with onnxruntime, and the server would compute" in said
    assert said.endswith("export it with --target openvino")
    assert list(tmp_path.iterdir()) == []


def test_the_commands_in_the_readme_stay_on_this_machine(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    assert "-p 127.0.0.1:8000:8000" in text
    assert "--rest_bind_address 127.0.0.1 --grpc_bind_address 127.0.0.1" in text
    assert "0.0.0.0" not in text
    assert f"/v2/models/{MODEL}/infer" in text


def test_the_probe_is_a_program_of_its_own(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", repository / "probe.py", "--url", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "URLError" in done.stderr
