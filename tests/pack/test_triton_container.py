"""The container of a packed repository: named, checked against the plan, or said to be unknown."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.commands.options import request_of
from exporter.errors import UsageError
from exporter.pack.formats import Packed, pack
from exporter.pack.request import PackRequest
from exporter.progress import Silent
from exporter.targets.tensorrt.portability import rebuild_line
from exporter.targets.tensorrt.settings import TensorRtSettings
from tests.commands.test_options import GROUP
from tests.pack.test_triton import with_plan
from tests.packed import digits_build

NAME = "resnet20-digits"
REBUILD = rebuild_line(
    TensorRtSettings(), {"input": [-1, 3, 32, 32]}, ((1, 1, 1), (1, 8, 32)), "10.13.3.9"
)


def plan(folder: Path, version: str = "10.13.3.9", **requires: Any) -> Path:
    """A build with a plan of that version of TensorRT."""
    return with_plan(
        folder,
        ["1:1:1", "1:8:32"],
        versions={"tensorrt": version},
        compute_capability="8.9",
        rebuild=REBUILD,
        **requires,
    )


def packed(build: Path, folder: Path, **options: Any) -> Packed:
    request = PackRequest(build, format="triton", out=folder / "repository", **options)
    return pack(request, Silent())


def test_the_newest_container_that_loads_the_plan_is_named(tmp_path: Path) -> None:
    done = packed(plan(tmp_path), tmp_path)
    assert done.notes[-1] == (
        "container 25.10-py3 has tensorrt 10.13.3.9; tensorrt.fp16 was validated with 10.13.3.9"
    )
    readme = (done.path / "README.md").read_text()
    assert "docker run --rm --gpus all" in readme
    assert "nvcr.io/nvidia/tritonserver:25.10-py3 \\\n  tritonserver --model-repo" in readme
    assert "version-compatible" not in readme


def test_the_container_asked_for_is_named(tmp_path: Path) -> None:
    build = plan(tmp_path)
    for asked in ("25.09-py3", "nvcr.io/nvidia/tritonserver:25.09-py3"):
        readme = (packed(build, tmp_path, container=asked).path / "README.md").read_text()
        assert "nvcr.io/nvidia/tritonserver:25.09-py3" in readme


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("25.11-py3", r"--container 25\.11-py3 does not load tensorrt\.fp16: it has tensorrt "
         r"10\.14\.1\.48, and TensorRT 10\.13\.3\.9 built it.*newest.*25\.10-py3"),
        ("24.06-py3", r"it has tensorrt 10\.1\.0\.27"),
        ("25.10-trtllm-python-py3", r"no backend tensorrt; take 25\.10-py3"),
        ("a b", r"give a tag of nvcr\.io/nvidia/tritonserver, as in 25\.11-py3"),
        ("--rm", r"give a tag of"),
    ],
)  # fmt: skip
def test_a_container_that_cannot_load_it_is_refused(
    tmp_path: Path, asked: str, message: str
) -> None:
    build = plan(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        packed(build, tmp_path, container=asked)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "repository").exists()


def test_a_version_compatible_plan_loads_in_later_ones(tmp_path: Path) -> None:
    build = plan(tmp_path, version_compatible=True)
    done = packed(build, tmp_path)
    readme = (done.path / "README.md").read_text()
    assert "tritonserver:26.07-py3" in readme
    assert "The engine needs compute capability 8.9, tensorrt 10.13.3.9 or later." in readme
    assert f"--load-model={NAME} --backend-config=tensorrt,version-compatible=true\n" in readme
    packed(build, tmp_path, container="25.11-py3")
    with pytest.raises(UsageError, match="later versions of TensorRT 10 and 11 alone"):
        packed(build, tmp_path, container="25.08-py3")


@pytest.mark.parametrize("asked", ["26.06-py3", "24.12-py3", "registry.example/mine:3"])
def test_what_is_not_known_is_said_and_not_refused(tmp_path: Path, asked: str) -> None:
    done = packed(plan(tmp_path), tmp_path, container=asked)
    assert re.search(r"not known here: it must have Triton's backend tensorrt", done.notes[-1])
    assert "tensorrt 10.13.3.9" in done.notes[-1]
    image = asked if "/" in asked else f"nvcr.io/nvidia/tritonserver:{asked}"
    assert f"  {image} " in (done.path / "README.md").read_text()


def test_where_no_container_is_known_to_load_it_one_line_says_so(tmp_path: Path) -> None:
    done = packed(plan(tmp_path, "10.12.0.36"), tmp_path)
    assert done.notes[-1].startswith("no container is known to load it: it must have")
    assert "docker run --rm --gpus all -v" in (done.path / "README.md").read_text()


def test_the_plan_can_be_built_again(tmp_path: Path) -> None:
    build = plan(tmp_path)
    done = packed(build, tmp_path, slo_ms=50.0)
    readme = (done.path / "README.md").read_text()
    assert "The engine needs compute capability 8.9, tensorrt 10.13.3.9." in readme
    assert f"nvcr.io/nvidia/tensorrt:25.10-py3 \\\n  {REBUILD}\n" in readme
    # Both ends of the command are there: the graph that it reads, the plan that it replaces.
    model = done.path / NAME
    words = dict(word[2:].split("=", 1) for word in shlex.split(REBUILD) if "=" in word)
    assert (model / words["saveEngine"]).is_file()
    (graph,) = (e for e in _manifest(build)["engines"])
    assert (model / words["onnx"]).read_bytes() == (build / graph["graph"]).read_bytes()


def test_our_own_lines_are_read_by_our_command_line(tmp_path: Path) -> None:
    readme = (packed(plan(tmp_path), tmp_path, slo_ms=50.0).path / "README.md").read_text()
    lines = [shlex.split(line) for line in readme.splitlines() if line.startswith("exporter ")]
    assert [line[1] for line in lines] == ["export", "pack"]
    context = GROUP.commands["pack"].make_context("pack", lines[1][2:])
    asked = request_of(PackRequest, context.params)
    assert (asked.format, asked.slo_ms, asked.engines) == ("triton", 50.0, ("tensorrt.fp16",))
    GROUP.commands["export"].make_context("export", lines[0][2:])


def test_a_plan_without_weights_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its plan has no weights, and Triton does not put them"):
        packed(plan(tmp_path, strip_weights=True), tmp_path)


def test_other_engines_are_told_what_the_container_has(tmp_path: Path) -> None:
    done = packed(digits_build(), tmp_path, backend="onnxruntime", container="25.11-py3")
    assert "container 25.11-py3 has onnxruntime 1.23.2; ort-cpu.fp32 was valid" in done.notes[-1]
    assert "docker run --rm -p 127.0.0.1:8000:8000 " in (done.path / "README.md").read_text()
    with pytest.raises(UsageError, match="no backend onnxruntime"):
        packed(digits_build(), tmp_path, backend="onnxruntime", container="25.11-vllm-python-py3")
    # A Python backend is in each of them.
    packed(digits_build(), tmp_path, backend="python", container="25.11-vllm-python-py3")


def test_kserve_starts_the_container_too(tmp_path: Path) -> None:
    """Its own default is years old, and loads no plan of today."""
    for container, version in ((None, "25.10-py3"), ("26.06-py3", "26.06-py3"), ("a/b:3", None)):
        request = PackRequest(
            plan(tmp_path), format="kserve", out=tmp_path / "service", container=container,
            storage_uri="s3://models/digits",
        )  # fmt: skip
        text = (pack(request, Silent()).path / "inferenceservice.yaml").read_text()
        model = yaml.safe_load(text)["spec"]["predictor"]["model"]
        assert model.get("runtimeVersion") == version
        shutil.rmtree(tmp_path / "build")


def _manifest(build: Path) -> Any:
    return json.loads((build / "manifest.json").read_text())
