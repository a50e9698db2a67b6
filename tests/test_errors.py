"""What an error tells to install is true wherever the package was installed from."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from exporter import errors
from exporter.errors import install_command, unknown_name
from exporter.runtime.errors import reason_of

ROOT = Path(__file__).parents[1]


def test_in_a_checkout() -> None:
    assert install_command("cpu,bench") == "pip install -e '.[cpu,bench]'  # in the checkout"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, "pip install 'resnet-exporter[cpu]'"),
        (
            {"url": "file:///home/somebody/source", "dir_info": {}},
            "pip install '.[cpu]'  # in the folder that this came from",
        ),
        (
            {
                "url": "file:///home/somebody/resnet_exporter-0.1.0-py3-none-any.whl",
                "archive_info": {},
            },
            "pip install './resnet_exporter-0.1.0-py3-none-any.whl[cpu]'  # where that file is",
        ),
        (
            {"url": "https://host/x-0.1.0-py3-none-any.whl", "archive_info": {}},
            "pip install 'resnet-exporter[cpu] @ https://host/x-0.1.0-py3-none-any.whl'",
        ),
        (
            {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'resnet-exporter[cpu] @ git+https://host/x.git@abc'",
        ),
    ],
)
def test_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: object, expected: str
) -> None:
    info = tmp_path / "resnet_exporter-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: resnet-exporter\nVersion: 0.1.0\n")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "exporter" / "errors.py"))
    told = install_command("cpu")
    assert told == expected
    assert "somebody" not in told


def test_no_hint_assumes_an_index() -> None:
    """`install_command` knows where the package is; a text does not."""
    for folder in ("exporter", "benchmarks", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"resnet-exporter\[", text), path


def test_a_long_list_of_names_is_not_printed_whole() -> None:
    message = str(unknown_name("timm model", "?", [f"net{number:04}" for number in range(1000)]))
    assert "net0000" in message
    assert message.endswith("and 960 more")


def test_a_cuda_error_is_quoted_without_its_source_and_without_this_host() -> None:
    kind = "std::conditional_t<THRW, void, onnxruntime::common::Status>"
    said = (
        f"/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 {kind} "
        "onnxruntime::CudaCall(ERRTYPE, const char*, SUCCTYPE) [with ERRTYPE = cudaError; "
        "bool THRW = true; std::conditional_t<THRW, void, common::Status> = void] "
        "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; "
        "GPU=-1 ; hostname=somebodys ; file=/onnxruntime_src/cuda.cc ; line=355 ; expr=f(x); "
    )
    assert reason_of(RuntimeError(said)) == (
        "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"
    )
    option = (
        "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:949 std::shared_ptr<"
        "onnxruntime::Factory> onnxruntime::python::Create(const onnxruntime::SessionOptions&) "
        "[ERROR] [TensorRT] The value for the key 'trt_fp16_enable' should be 'True' or 'False'."
    )
    assert reason_of(RuntimeError(option)) == (
        "[ERROR] [TensorRT] The value for the key 'trt_fp16_enable' should be 'True' or 'False'."
    )


def test_another_librarys_message_is_quoted_in_one_way() -> None:
    """`reason_of` makes it one line without the library's own source; nobody does so by hand."""
    package = ROOT / "exporter"
    by_hand = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "str(error).split()" in path.read_text(encoding="utf-8")
    }
    # An import error of TensorRT starts with where the library lies.
    assert by_hand == {"runtime/errors.py", "targets/tensorrt/build.py"}
