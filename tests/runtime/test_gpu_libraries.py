"""What is in a GPU provider's way, without one: named by file, package and version."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import onnxruntime
import pytest

from exporter.runtime import NoEngineError, gpu_libraries
from exporter.runtime.description import Requirements
from exporter.runtime.gpu_libraries import CUDA, Obstacle, cuda_libraries, linked_tensorrt, why_not
from exporter.runtime.sessions import OnnxRuntimeSession
from exporter.runtime.threads import Threads


def test_a_provider_of_the_cpu_needs_nothing() -> None:
    assert why_not("CPUExecutionProvider") is None


def test_a_provider_that_is_not_compiled_in_names_the_distribution() -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is installed")
    assert str(why_not(CUDA)) == (
        f"onnxruntime {onnxruntime.__version__} has no {CUDA}; onnxruntime-gpu has it"
    )


def test_a_server_says_it_in_one_line() -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is installed")
    with pytest.raises(NoEngineError, match=f"{CUDA} does not work here: onnxruntime"):
        OnnxRuntimeSession(
            [b""], "fp32", Requirements(), Threads(1), (CUDA, "CPUExecutionProvider")
        )


def test_the_first_missing_library_is_named_with_its_package() -> None:
    absent = gpu_libraries.Library("libabsent.so.13", "nvidia-absent")
    found = gpu_libraries._first_missing([gpu_libraries.Library("libc.so.6", "libc"), absent])
    assert found == Obstacle("libabsent.so.13 is not here", "nvidia-absent")
    assert str(found) == "libabsent.so.13 is not here; run: pip install 'nvidia-absent'"


def test_a_wheel_is_found_wherever_the_path_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where ONNX Runtime is in an environment on top of the one that has PyTorch and CUDA.
    library = gpu_libraries.Library("libelsewhere.so.13", "nvidia-elsewhere")
    assert gpu_libraries._first_missing([library]) is not None
    folder = tmp_path / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True)
    small = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_shared.so"
    shutil.copyfile(small, folder / library.file)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert gpu_libraries._first_missing([library]) is None


def test_packages_are_named_as_that_version_of_cuda_names_them() -> None:
    files = {library.file: library.package for library in cuda_libraries(13)}
    assert files["libcublas.so.13"] == "nvidia-cublas"
    assert files["libcudnn.so.9"] == "nvidia-cudnn-cu13"
    assert {library.package for library in cuda_libraries(12)} >= {"nvidia-cublas-cu12"}


def test_the_tensorrt_that_a_provider_is_linked_with_is_read_from_it(tmp_path: Path) -> None:
    provider = tmp_path / "capi" / "libonnxruntime_providers_tensorrt.so"
    provider.parent.mkdir()
    provider.write_bytes(b"\0libc.so.6\0libnvinfer.so.11\0libnvonnxparser.so.11\0")
    assert linked_tensorrt(tmp_path) == 11
