"""The model repository: the right engine behind the right backend, with nothing left to write.

What Triton itself makes of it is in `tests/serving`.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.builds import manifest as manifests
from exporter.errors import UsageError
from exporter.pack.formats import pack
from exporter.pack.protobuf_text import Message, Word, parameters, text_format
from exporter.pack.request import PackRequest
from exporter.pack.triton_backends import why_not
from exporter.progress import Silent
from exporter.runtime import load
from tests.packed import (
    digits_build,
    digits_bundle,
    edited_build,
    loaded,
    measured,
    on_a_cpu_with_vnni,
)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, with a batch curve."""
    return edited_build(
        tmp_path_factory.mktemp("triton"),
        lambda manifest: measured(
            manifest,
            fp32={1: 3.0, 2: 5.0, 4: 9.0, 8: 18.0},
            int8={1: 1.0, 2: 1.4, 4: 2.4, 8: 4.0},
        ),
    )


def repository(build: Path, folder: Path, **options: Any) -> Path:
    request = PackRequest(build, format="triton", out=folder / "repository", **options)
    return pack(request, Silent()).path / "resnet20-digits"


def config_of(model: Path) -> str:
    return (model / "config.pbtxt").read_text()


def test_the_fastest_engine_that_needs_session_options_goes_to_python(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_cpu_with_vnni(monkeypatch)
    model = repository(build, tmp_path)
    config = config_of(model)
    assert 'backend: "python"' in config
    assert "max_batch_size: 8" in config
    assert "preferred_batch_size: [ 2, 4, 8 ]" in config
    assert re.search(r'input \{\n  name: "images"\n  data_type: TYPE_UINT8\n', config)
    bundle = model / "1" / "bundle"
    with np.load(bundle / "golden.npz") as goldens, load(bundle) as engine:
        assert engine.id == "ort-cpu.int8"
        expected = np.resize(goldens["images"], (8, 32, 32, 3))
    assert (model / "warmup" / "golden-batch-8").read_bytes() == expected.tobytes()
    assert (model / "warmup" / "golden-batch-1").read_bytes() == expected[:1].tobytes()


def test_the_python_model_carries_its_own_copy_of_the_runtime(build: Path, tmp_path: Path) -> None:
    model = repository(build, tmp_path)
    copy = model / "1" / "exporter" / "runtime"
    import exporter.runtime

    source = Path(exporter.runtime.__file__).parent
    assert {p.name: p.read_text() for p in copy.glob("*.py")} == {
        p.name: p.read_text() for p in source.glob("*.py")
    }
    compile((model / "1" / "model.py").read_text(), "model.py", "exec")


def test_onnxruntime_serves_an_engine_that_needs_no_session_options(
    build: Path, tmp_path: Path
) -> None:
    model = repository(build, tmp_path, backend="onnxruntime")
    config = config_of(model)
    engine = digits_build() / "engines" / "ort-cpu" / "fp32.onnx"
    assert (model / "1" / "model.onnx").read_bytes() == engine.read_bytes()
    assert re.search(
        r'input \{\n  name: "input"\n  data_type: TYPE_FP32\n  dims: \[ 3, 32, 32 \]', config
    )
    assert 'key: "intra_op_thread_count"' in config


def test_onnxruntime_does_not_serve_what_it_cannot_set_up(build: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no way to set; take --backend python"):
        repository(build, tmp_path, backend="onnxruntime", engines=("ort-cpu.int8",))
    assert list(tmp_path.iterdir()) == []


def test_a_providers_options_are_not_left_behind_either(build: Path) -> None:
    """Without them the CUDA provider would round FP32 products to TF32."""
    (engine,) = (one for one in manifests.read(build).engines if one.id == "ort-cpu.fp32")
    assert why_not(engine, "onnxruntime") is None
    asked = replace(engine, requires={"provider_options": {"CUDA": {"use_tf32": "0"}}})
    assert "options of its session or provider" in str(why_not(asked, "onnxruntime"))
    assert why_not(asked, "python") is None


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("tensorflow", "unknown Triton backend 'tensorflow'; did you mean tensorrt"),
        ("tensorrt", "backend tensorrt does not serve ort-cpu engines"),
        ("openvino", "backend openvino does not serve ort-cpu engines"),
    ],
)
def test_a_backend_without_an_engine_is_an_error(
    build: Path, tmp_path: Path, backend: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        repository(build, tmp_path, backend=backend)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_in_time_bounds_batch_and_queue(build: Path, tmp_path: Path) -> None:
    config = config_of(repository(build, tmp_path, slo_ms=6.2))
    assert "max_batch_size: 4" in config
    assert "max_queue_delay_microseconds: 200" in config
    assert "timeout_action: REJECT" in config
    assert "default_timeout_microseconds: 6200" in config


def test_instances_are_those_that_answered_most_under_load(tmp_path: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        measured(manifest, int8={1: 1.0, 8: 4.0})
        loaded(manifest)

    build = edited_build(tmp_path, edit)
    model = repository(build, tmp_path / "packed", engines=("ort-cpu.int8",))
    config = config_of(model)
    assert re.search(r"instance_group \{\n  kind: KIND_CPU\n  count: 3\n", config)
    assert re.search(r'key: "threads"\n  value \{\n    string_value: "1"', config)
    said = "3 instances of 1 thread, batches of up to 8: 93 images/s"
    assert said in (model.parent / "README.md").read_text()
    packed = json.loads((model / "1" / "bundle" / "manifest.json").read_text())
    assert [point["engine"] for point in packed["throughput"]["points"]] == ["ort-cpu.int8"] * 2
    with load(model / "1" / "bundle", shared=True) as engine:
        assert engine.advice is not None
        assert engine.advice.processes == 3
        assert engine.threads.each == 1


def with_plan(folder: Path, profiles: list[str], target: str = "tensorrt", **requires: Any) -> Path:
    """A build whose engine is a TensorRT plan. Its bytes do not matter: packing never runs it."""

    def edit(manifest: dict[str, Any]) -> None:
        measured(manifest, fp16={1: 0.5, 2: 0.6, 8: 1.0, 16: 1.8, 64: 6.0})
        entry = next(e for e in manifest["engines"] if e["precision"] == "fp16")
        entry.update(id=f"{target}.fp16", target=target)
        for latency in (entry["latency"], *entry["latency_by_batch"]):
            latency.update(device="gpu", baseline="torch-eager-cuda")
        entry["requires"] = {
            "versions": {"tensorrt": "11.1.0"}, "profiles": profiles, **requires
        }  # fmt: skip
        manifest["engines"] = [entry]

    return edited_build(folder, edit)


def test_no_batch_lies_outside_the_plans_profiles(tmp_path: Path) -> None:
    build = with_plan(tmp_path, ["1:1:1", "1:8:32"])
    config = config_of(repository(build, tmp_path, backend="tensorrt"))
    assert "max_batch_size: 16" in config
    assert "kind: KIND_GPU" in config
    assert 'profile: [ "0", "1" ]' in config
    shutil.rmtree(tmp_path / "build")
    build = with_plan(tmp_path, ["1:4:8"])
    shutil.rmtree(tmp_path / "repository")
    assert "max_batch_size: 8" in config_of(repository(build, tmp_path, backend="tensorrt"))


def test_the_engines_that_are_served_are_named(build: Path, tmp_path: Path) -> None:
    for backend, engines in (
        ("onnxruntime", ("ort-cpu.fp32",)),
        ("python", ("ort-cpu.fp32", "ort-cpu.fp16", "ort-cpu.int8")),
    ):
        request = PackRequest(build, format="triton", out=tmp_path / backend, backend=backend)
        assert pack(request, Silent()).engines == engines


def test_a_plan_that_takes_no_single_image_is_refused(tmp_path: Path) -> None:
    build = with_plan(tmp_path, ["4:8:16", "2:2:2"])
    with pytest.raises(UsageError, match=r"no batch below 2.*--profile 1:OPT:MAX"):
        repository(build, tmp_path, backend="tensorrt")


def with_fixed_batch(folder: Path, batch: int) -> Path:
    """A build whose manifest says that the engines take this one batch size."""

    def edit(manifest: dict[str, Any]) -> None:
        measured(manifest, fp32={batch: 3.0})
        for side in ("input", "output"):
            manifest["model"][side]["shape"][0] = batch

    return edited_build(folder, edit)


@pytest.mark.parametrize("batch", [1, 3, 11])
def test_a_fixed_batch_is_a_dimension_like_others(tmp_path: Path, batch: int) -> None:
    build = with_fixed_batch(tmp_path, batch)
    model = repository(build, tmp_path, backend="onnxruntime", engines=("ort-cpu.fp32",))
    config = config_of(model)
    assert "max_batch_size: 0\n" in config
    assert config.count(f"dims: [ {batch}, 3, 32, 32 ]") == 2  # the input, and its warm-up
    assert f"dims: [ {batch}, 10 ]" in config
    assert "dynamic_batching" not in config
    golden = json.loads((model.parent / "probe.json").read_text())
    (given,) = golden["inputs"]
    assert given["shape"] == [batch, 3, 32, 32]
    data = (model.parent / given["data"]).read_bytes()
    with np.load(digits_bundle() / "golden.npz") as goldens:
        assert data == np.resize(goldens["inputs"], (batch, 3, 32, 32)).tobytes()
        expected = np.resize(goldens["answers:ort-cpu.fp32"], (batch, 10))
    assert np.abs(np.reshape(golden["expected"], (batch, 10)) - expected).max() < 1e-5
    assert f"shape {batch} x 3 x 32 x 32" in (model.parent / "README.md").read_text()


def test_the_python_backend_takes_any_batch_all_the_same(tmp_path: Path) -> None:
    config = config_of(repository(with_fixed_batch(tmp_path, 4), tmp_path, backend="python"))
    assert "max_batch_size: 4\n" in config
    assert "dims: [ 32, 32, 3 ]" in config


def test_triton_does_not_read_rtx_plans(tmp_path: Path) -> None:
    build = with_plan(tmp_path, ["1:8:32"], target="tensorrt-rtx:sm89")
    with pytest.raises(UsageError, match="backend tensorrt does not serve tensorrt-rtx engines"):
        repository(build, tmp_path)


def test_the_probe_asks_a_golden(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_cpu_with_vnni(monkeypatch)
    model = repository(build, tmp_path)
    golden = json.loads((model.parent / "probe.json").read_text())
    (given,) = golden["inputs"]
    data = (model.parent / given["data"]).read_bytes()
    image = np.frombuffer(data, np.uint8).reshape(given["shape"])
    with load(model / "1" / "bundle") as engine:
        answers = {
            name: load(model / "1" / "bundle", engine=name)(image)[0]
            for name in ("ort-cpu.fp32", "ort-cpu.fp16", "ort-cpu.int8")
        }
        assert engine.id == "ort-cpu.int8"
    expected = np.array(golden["expected"])
    norm = np.linalg.norm(expected)
    for answer in answers.values():
        assert np.linalg.norm(answer - expected) / norm <= golden["tolerance"]
    assert golden["tolerance"] < 0.3
    swapped = np.linalg.norm(np.roll(expected, 1) - expected) / norm
    assert swapped > golden["tolerance"]


def test_text_format() -> None:
    message: Message = {
        "name": 'say "hi"\n',
        "count": 3,
        "on": True,
        "kind": Word("KIND_CPU"),
        "dims": [1, 2],
        "part": [{"a": 1}, {"a": 2}],
        "parameters": parameters({"k": "v"}),
    }
    assert text_format(message) == (
        'name: "say \\"hi\\"\\n"\ncount: 3\non: true\nkind: KIND_CPU\ndims: [ 1, 2 ]\n'
        'part {\n  a: 1\n}\npart {\n  a: 2\n}\n'
        'parameters {\n  key: "k"\n  value {\n    string_value: "v"\n  }\n}\n'
    )  # fmt: skip
