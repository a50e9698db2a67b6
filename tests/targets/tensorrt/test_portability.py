"""Where a plan loads, and the command that builds it again elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.errors import BuildError
from exporter.targets.tensorrt.full import TensorRt
from exporter.targets.tensorrt.portability import rebuild_line, why_not_loaded
from exporter.targets.tensorrt.refit import put_weights_back, weights_of
from exporter.targets.tensorrt.settings import TensorRtSettings

SHAPES = {"input": [-1, 3, 224, 224]}


@pytest.mark.parametrize(
    ("built", "found", "compatible", "loads"),
    [
        ("10.13.3.9", "10.13.3.9", False, True),
        ("10.13.3", "10.13.3.9", False, True),  # recorded without the build number
        ("10.0.0b6", "10.0.0.6", False, True),
        ("nothing", "10.0.0.6", False, True),
        ("10.13.3.9", "10.13.3.10", False, False),
        ("10.13.3.9", "10.14.1.48", False, False),
        ("10.13.3.9", "10.14.1.48", True, True),
        ("10.13.3.9", "10.13.2.6", True, False),
        ("10.13.3.9", "11.1.0.106", True, True),
        ("11.1.0.106", "10.16.1.11", True, False),
        ("11.1.0.106", "12.0.0.1", True, False),
        ("8.6.1.6", "9.0.0.1", True, False),
    ],
)
def test_where_a_plan_loads(built: str, found: str, compatible: bool, loads: bool) -> None:
    reason = why_not_loaded(built, found, version_compatible=compatible)
    assert (reason is None) is loads
    if reason is not None:
        assert f"TensorRT {built} built it" in reason


def test_the_record_of_an_engine_decides() -> None:
    requires: dict[str, Any] = {"versions": {"tensorrt": "10.13.3.9"}, "version_compatible": True}
    assert TensorRt.why_not_loaded(requires, "10.14.1.48") is None
    assert TensorRt.triton_options(requires) == (
        "--backend-config=tensorrt,version-compatible=true",
    )
    requires["version_compatible"] = False
    reason = TensorRt.why_not_loaded(requires, "10.14.1.48")
    assert reason is not None
    assert "--setting tensorrt.version_compatible=on" in reason
    assert TensorRt.triton_options(requires) == ()
    assert TensorRt.why_not_loaded({}, "10.14.1.48") is None


def test_the_plan_is_built_again_as_it_was() -> None:
    line = rebuild_line(TensorRtSettings(), SHAPES, ((1, 1, 1), (1, 8, 32)), "10.13.3.9")
    assert line == (
        "trtexec --onnx=onnx/model.onnx --saveEngine=1/model.plan --timingCacheFile=timing.cache"
        " --profile=0 --minShapes=input:1x3x224x224 --optShapes=input:1x3x224x224"
        " --maxShapes=input:1x3x224x224"
        " --profile=1 --minShapes=input:1x3x224x224 --optShapes=input:8x3x224x224"
        " --maxShapes=input:32x3x224x224 --stronglyTyped --noTF32 --skipInference"
    )


def test_settings_become_trtexecs_options() -> None:
    settings = TensorRtSettings(
        tf32=True,
        optimization_level=5,
        hardware_compatibility="same_compute_capability",
        version_compatible=True,
    )
    line = rebuild_line(settings, {"input": [4, 3, 32, 32]}, ((4, 4, 4),), "11.1.0.106")
    assert line.partition("timing.cache ")[2] == (
        "--builderOptimizationLevel=5 --versionCompatible"
        " --hardwareCompatibilityLevel=sameComputeCapability --skipInference"
    )
    one = rebuild_line(TensorRtSettings(), SHAPES, ((1, 8, 32),), "11.1.0.106")
    assert "--profile=" not in one
    assert "--minShapes=input:1x3x224x224 --optShapes=input:8x3x224x224" in one


def test_the_library_has_what_puts_weights_back() -> None:
    """It needs a GPU, so only that its calls exist can be told here."""
    trt = pytest.importorskip("tensorrt_rtx")
    assert {"refit_from_bytes"} <= set(dir(trt.OnnxParserRefitter))
    assert {"refit_cuda_engine", "get_missing_weights"} <= set(dir(trt.Refitter))
    assert hasattr(trt.BuilderFlag, "STRIP_PLAN")
    assert hasattr(trt.BuilderFlag, "REFIT_IDENTICAL")


class Library:
    """What `put_weights_back` asks of TensorRT, and an answer that a GPU may give."""

    class Logger:
        ERROR = 1

        def __init__(self, severity: int) -> None:
            assert severity == self.ERROR

    def __init__(self, *, takes: bool) -> None:
        self.given: list[bytes] = []
        self.takes = takes

    def Refitter(self, _engine: object, _logger: object) -> Library:  # noqa: N802
        return self

    def OnnxParserRefitter(self, _refitter: object, _logger: object) -> Library:  # noqa: N802
        return self

    def refit_from_bytes(self, content: bytes) -> bool:
        self.given.append(content)
        return self.takes

    def refit_cuda_engine(self) -> bool:
        return True

    def get_missing_weights(self) -> list[str]:
        return ["fc.weight"]


def test_weights_come_from_beside_the_plan(tmp_path: Path) -> None:
    weights = weights_of(tmp_path / "fp16.plan")
    assert weights.name == "fp16.weights.onnx"
    weights.write_bytes(b"onnx")
    library = Library(takes=True)
    put_weights_back(library, object(), weights)
    assert library.given == [b"onnx"]
    with pytest.raises(BuildError, match=r"fp16.weights.onnx do not go into.*fc.weight the first"):
        put_weights_back(Library(takes=False), object(), weights)
