"""A real Triton server on the packed repository, over HTTP and gRPC with its own clients."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.progress import Silent
from tests.pack.test_triton import with_fixed_batch, with_plan
from tests.packed import edited_build, measured
from tests.serving.environment import client_command, needs_triton, run_client
from tests.serving.triton_server import TritonServer, running, server_command

pytestmark = [pytest.mark.serving, needs_triton, pytest.mark.timeout(600)]

MODEL = "resnet20-digits"
ENGINE = "ort-cpu.int8"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edited_build(
        tmp_path_factory.mktemp("build"),
        lambda manifest: measured(
            manifest,
            fp32={1: 3.0, 2: 5.0, 4: 9.0, 8: 18.0},
            int8={1: 1.0, 2: 1.4, 4: 2.4, 8: 4.0, 16: 7.0},
        ),
    )


@pytest.fixture(scope="module")
def repository(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(build, tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with running(repository, tmp_path_factory.mktemp("server"), MODEL) as started:
        yield started


def make_repository(build: Path, folder: Path, **options: Any) -> Path:
    request = PackRequest(build, format="triton", out=folder / "models", **options)
    return pack(request, Silent()).path


def goldens_of(repository: Path) -> Path:
    return repository / MODEL / "1" / "bundle" / "golden.npz"


def asked(server: TritonServer, repository: Path) -> tuple[str | Path, ...]:
    return server.http, server.grpc, MODEL, goldens_of(repository), ENGINE


def test_the_goldens_over_http_and_grpc(server: TritonServer, repository: Path) -> None:
    found = run_client("replay", *asked(server, repository))
    assert found["http"] < 1e-5
    assert found["grpc"] < 1e-5
    with np.load(goldens_of(repository)) as goldens:
        best = goldens["outputs"].argmax(1)
    labels = [text.rpartition(":")[2] for text in found["classes"]]
    assert labels == [str(index) for index in best]
    assert f"serves {ENGINE}" in server.log.read_text()


def test_malformed_requests_are_refused_and_harm_nothing(
    server: TritonServer, repository: Path
) -> None:
    answers = run_client("malformed", server.http, server.grpc, MODEL)
    for what, answer in answers.items():
        assert re.match(r"\[(4\d\d|500|StatusCode\.INVALID_ARGUMENT)\] \S", answer), (what, answer)
    for kind in ("http", "grpc"):
        assert "expects 'UINT8'" in answers[f"wrong dtype, {kind}"]
        assert "[-1,32,32,3]" in answers[f"wrong size, {kind}"]
        assert "batch-size must be <= 16" in answers[f"huge batch, {kind}"]
    assert run_client("replay", *asked(server, repository))["http"] < 1e-5


def test_ten_thousand_requests_from_eight_clients(server: TritonServer, repository: Path) -> None:
    run_client("load", *asked(server, repository), 1000, 8)
    before = server.resident_bytes()
    found = run_client("load", *asked(server, repository), 10_000, 8)
    grown = server.resident_bytes() - before
    print(json.dumps({**found, "resident_bytes": before, "grown_bytes": grown}))  # noqa: T201 - for the record, with -s
    assert found["outcomes"] == {"right": 10_000}
    assert grown < 20 << 20


def test_the_probe_tells_right_from_wrong(
    server: TritonServer, repository: Path, tmp_path: Path
) -> None:
    assert probe(repository, server) == (0, "")
    golden = json.loads((repository / "probe.json").read_text())
    other = tmp_path / "models"
    (other / MODEL).mkdir(parents=True)
    (other / MODEL / "warmup").symlink_to(repository / MODEL / "warmup")
    (other / "probe.py").write_bytes((repository / "probe.py").read_bytes())
    golden["expected"] = golden["expected"][1:] + golden["expected"][:1]
    (other / "probe.json").write_text(json.dumps(golden))
    code, said = probe(other, server)
    assert code == 1
    assert "a wrong answer: relative error" in said


def probe(repository: Path, server: TritonServer) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(repository / "probe.py"), "--url", server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_killed_backend_fails_cleanly_and_recovers(build: Path, tmp_path: Path) -> None:
    repository = make_repository(build, tmp_path)
    with running(repository, tmp_path, MODEL) as server:
        watch = [sys.executable, str(repository / "probe.py"), "--url", server.url]
        with subprocess.Popen(
            [*watch, "--watch", "1", "--reload"], stderr=subprocess.PIPE
        ) as guard:
            try:
                check_recovery(server, repository)
            finally:
                guard.kill()
            said = guard.stderr.read().decode() if guard.stderr else ""
        assert "is not healthy" in said
        assert "loaded again" in said


def check_recovery(server: TritonServer, repository: Path) -> None:
    command = client_command("endure", *asked(server, repository), 25, 8)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as clients:
        time.sleep(4)
        (stub,) = server.backend_processes()
        stub.kill()
        killed = time.time()
        printed, _ = clients.communicate(timeout=120)
    found = json.loads(printed)
    print(printed.decode(), killed)  # noqa: T201 - for the record, with -s
    outcomes = found["outcomes"]
    assert "WRONG" not in outcomes
    assert outcomes.pop("right") > 100
    for message in outcomes:
        assert re.search(r"is not healthy|has no available versions|not ready", message), message
    assert found["longest_s"] < 15
    assert killed <= found["last_error"] < found["last_right"]
    assert run_client("replay", *asked(server, repository))["grpc"] < 1e-5


def test_an_altered_bundle_never_serves(build: Path, tmp_path: Path) -> None:
    repository = make_repository(build, tmp_path)
    engine = repository / MODEL / "1" / "bundle" / "engines" / "ort-cpu" / "int8.onnx"
    contents = bytearray(engine.read_bytes())
    contents[1000] ^= 1
    engine.write_bytes(contents)
    command, environment, _, _ = server_command(repository, tmp_path, MODEL)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "int8.onnx is not the file that was packed" in done.stdout + done.stderr


def config(repository: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = run_client("config", repository / MODEL / "config.pbtxt")
    return parsed


def test_the_python_configuration_field_by_field(repository: Path) -> None:
    described = config(repository)
    warmups = described.pop("model_warmup")
    image = {"data_type": "TYPE_UINT8", "dims": ["32", "32", "3"]}
    assert described == {
        "name": MODEL,
        "backend": "python",
        "max_batch_size": 16,
        "input": [{"name": "images", **image}],
        "output": [
            {
                "name": "logits",
                "data_type": "TYPE_FP32",
                "dims": ["10"],
                "label_filename": "labels.txt",
            }
        ],
        "version_policy": {"specific": {"versions": ["1"]}},
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": {"threads": {"string_value": "2"}},
        "dynamic_batching": {
            "preferred_batch_size": [2, 4, 8, 16],
            "max_queue_delay_microseconds": "1000",
        },
    }
    assert warmups == [
        {
            "name": f"golden-batch-{batch}",
            "batch_size": batch,
            "inputs": {"images": {**image, "input_data_file": f"golden-batch-{batch}"}},
        }
        for batch in (1, 16)
    ]


def test_the_onnxruntime_configuration(build: Path, tmp_path: Path) -> None:
    described = config(make_repository(build, tmp_path, backend="onnxruntime", slo_ms=30.0))
    assert described["backend"] == "onnxruntime"
    assert described["input"] == [
        {"name": "input", "data_type": "TYPE_FP32", "dims": ["3", "32", "32"]}
    ]
    assert described["parameters"] == {"intra_op_thread_count": {"string_value": "2"}}
    assert described["dynamic_batching"] == {
        "preferred_batch_size": [2, 4],
        "max_queue_delay_microseconds": "3000",
        # REJECT, the action on a timeout, is the default and so left out here.
        "default_queue_policy": {"default_timeout_microseconds": "30000"},
    }


def test_the_configuration_of_a_fixed_batch(tmp_path: Path) -> None:
    build = with_fixed_batch(tmp_path, 4)
    described = config(make_repository(build, tmp_path, backend="onnxruntime"))
    # Zero is protobuf's default, which is left out; dimensions are then those of the whole request.
    assert "max_batch_size" not in described
    assert "dynamic_batching" not in described
    assert described["input"][0]["dims"] == ["4", "3", "32", "32"]
    assert described["output"][0]["dims"] == ["4", "10"]
    (warmup,) = described["model_warmup"]
    assert warmup["batch_size"] == 1
    assert warmup["inputs"]["input"]["dims"] == ["4", "3", "32", "32"]


def test_the_tensorrt_configuration(tmp_path: Path) -> None:
    build = with_plan(tmp_path, ["1:1:1", "1:8:32"])
    repository = make_repository(build, tmp_path, backend="tensorrt")
    described = config(repository)
    assert described["backend"] == "tensorrt"
    assert described["max_batch_size"] == 16
    assert described["instance_group"] == [{"kind": "KIND_GPU", "count": 1, "profile": ["0", "1"]}]
    assert "parameters" not in described
    assert (repository / MODEL / "1" / "model.plan").is_file()


def test_the_openvino_configuration(tmp_path: Path) -> None:
    def as_openvino(manifest: dict[str, Any]) -> None:
        """Field by field, no file is run: a second file stands for the weights."""
        measured(manifest, int8={1: 1.0, 2: 1.4})
        entry = next(e for e in manifest["engines"] if e["precision"] == "int8")
        entry.update(target="openvino", id="openvino.int8", requires={"versions": {}})
        manifest["engines"] = [entry]

    build = edited_build(tmp_path, as_openvino)
    from exporter.runtime import choice

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "is_installed", lambda module: False)
        described = config(make_repository(build, tmp_path, backend="openvino"))
    assert described["backend"] == "openvino"
    assert described["parameters"] == {
        "INFERENCE_NUM_THREADS": {"string_value": "2"},
        "NUM_STREAMS": {"string_value": "1"},
        "PERFORMANCE_HINT": {"string_value": "LATENCY"},
    }
