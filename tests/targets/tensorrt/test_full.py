"""Full TensorRT, as far as it can be checked with neither the library nor a GPU."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from exporter import host
from exporter.errors import BuildError, MissingDependencyError, UsageError, install_command
from exporter.targets import UnreadableKernels, get_target
from exporter.targets.tensorrt.full import profiles, read_engine, requires, trtexec_line
from exporter.targets.tensorrt.session import choose_profile
from exporter.targets.tensorrt.settings import Profile, TensorRtSettings
from tests.targets.tensorrt.machines import machine

SOURCES = Path(__file__).parents[3] / "exporter" / "targets" / "tensorrt"


def test_without_the_library_the_error_says_how_to_install_it() -> None:
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match=re.escape(install_command("gpu"))):
            get_target("tensorrt")
    else:
        pytest.skip("TensorRT is installed")


def test_without_a_gpu_the_error_names_the_way_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exporter.targets.tensorrt.full.require_installed", lambda *_: None)
    monkeypatch.setattr(host, "describe_host", lambda: machine(gpu=None))
    with pytest.raises(MissingDependencyError, match="use --target tensorrt-rtx:sm89"):
        get_target("tensorrt")


def test_it_has_no_variants() -> None:
    with pytest.raises(UsageError, match="use tensorrt-rtx:sm89"):
        get_target("tensorrt:sm89")


@pytest.mark.parametrize(
    ("asked", "batches", "made"),
    [
        (Profile(1, 8, 32), (1,), ((1, 1, 1), (1, 8, 32))),
        (Profile(1, 1, 1), (1,), ((1, 1, 1),)),
        (Profile(4, 8, 32), (1,), ((4, 8, 32),)),
        (Profile(1, 8, 32), (1, 8, 32, 64), ((1, 1, 1), (32, 32, 32), (1, 8, 32))),
        (Profile(1, 1, 8), (4, 8), ((1, 1, 1), (4, 4, 4), (8, 8, 8), (1, 1, 8))),
        (Profile(2, 2, 2), (2,), ((2, 2, 2),)),
    ],
)
def test_each_batch_size_that_matters_has_a_profile_that_is_tuned_at_it(
    asked: Profile, batches: tuple[int, ...], made: tuple[tuple[int, int, int], ...]
) -> None:
    assert profiles(asked, batches) == made
    for size in (size for size in batches if asked.min <= size <= asked.max):
        assert made[choose_profile([(low, high) for low, _, high in made], size)][1] == size


@pytest.mark.parametrize(("batch", "index"), [(1, 0), (2, 1), (32, 1)])
def test_the_narrowest_profile_is_used(batch: int, index: int) -> None:
    assert choose_profile([(1, 1), (1, 32)], batch) == index


def test_a_batch_beyond_the_profiles_is_an_error() -> None:
    with pytest.raises(BuildError, match="takes batches of 1 to 1, 1 to 32, not 33"):
        choose_profile([(1, 1), (1, 32)], 33)


def test_the_trtexec_line() -> None:
    shapes, built = {"input": [-1, 3, 224, 224]}, ((1, 1, 1), (1, 8, 32))
    assert trtexec_line("fp16.plan", shapes, 8, built, "10.13.3") == (
        "trtexec --loadEngine=fp16.plan --shapes=input:8x3x224x224 --useProfile=1 "
        "--useCudaGraph --useSpinWait --noDataTransfers"
    )
    # 11.1 does these three by itself; a batch of one is the first profile's.
    assert trtexec_line("fp16.plan", shapes, 1, built, "11.1.0") == (
        "trtexec --loadEngine=fp16.plan --shapes=input:1x3x224x224"
    )
    assert trtexec_line("fp16.plan", {"input": [4, 3, 224, 224]}, 8, (), "11.1.0") == (
        "trtexec --loadEngine=fp16.plan"
    )


def test_requirements(tmp_path: Path) -> None:
    answer = {
        "version": "10.13.3",
        "seconds": 40.0,
        "memory_mb": 2000,
        "inputs": {"input": [-1, 3, 224, 224]},
    }
    told = requires(TensorRtSettings(), machine(), answer, tmp_path / "fp16.plan", (1, 8, 64))
    assert told["compute_capability"] == "8.9"
    assert told["profiles"] == ["1:1:1", "1:8:32"]
    assert list(told["trtexec"]) == ["1", "8"]  # the plan takes no 64
    assert "--shapes=input:8x3x224x224 --useProfile=1" in told["trtexec"]["8"]
    assert told["tf32"] is False
    assert str(tmp_path) not in json.dumps(told)
    assert (told["triton_container"], told["strip_weights"]) == ("25.10-py3", False)
    assert told["rebuild"].startswith("trtexec --onnx=onnx/model.onnx --saveEngine=1/model.plan")
    wider = TensorRtSettings(hardware_compatibility="ampere_plus")
    assert (
        requires(wider, machine(), answer, tmp_path, (1,))["compute_capability"] == "8.0 and later"
    )
    later = TensorRtSettings(version_compatible=True)
    assert requires(later, machine(), answer, tmp_path, (1,))["triton_container"] == "26.07-py3"
    unknown = {**answer, "version": "10.12.0.36"}
    told = requires(TensorRtSettings(), machine(), unknown, tmp_path, (1,))
    assert told["triton_container"] == "none is known"


def test_a_missing_account_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableKernels, match="no engine inspector's account"):
        read_engine(tmp_path / "fp16.engine.json")
    (tmp_path / "fp16.engine.json").write_text('{"nodes": []}', encoding="utf-8")
    with pytest.raises(UnreadableKernels, match="no engine inspector's account"):
        read_engine(tmp_path / "fp16.engine.json")


def test_an_account_is_read_back(tmp_path: Path) -> None:
    layer = {
        "Name": "conv + relu",
        "LayerType": "CaskConvolution",
        "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]",
        "Inputs": [{"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Half"}],
        "Outputs": [{"Name": "y", "Dimensions": [1, 8, 8, 8], "Format/Datatype": "Half"}],
        "Weights": {"Type": "Half", "Count": 216},
    }
    account = {
        "library": "TensorRT 10.13.3",
        "built_for": "8.9",
        "nodes": ["Parsing node: conv [Conv]", "Parsing node: relu [Relu]"],
        "inspector": json.dumps({"Layers": [layer], "Bindings": ["x", "y"]}),
    }
    path = tmp_path / "fp16.engine.json"
    path.write_text(json.dumps(account), encoding="utf-8")
    (kernel,) = read_engine(path).kernels()
    assert (kernel.does, kernel.dtype, kernel.inputs) == (("conv", "relu"), "fp16", ("x",))


def attributes_of_trt(module: str) -> set[str]:
    """Each name that a module of ours takes from TensorRT: `trt.A.B` is "A.B"."""
    tree = ast.parse((SOURCES / f"{module}.py").read_text(encoding="utf-8"))
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            text = ast.unparse(node)
            if text.startswith("trt.") and "(" not in text:
                names.add(text.removeprefix("trt."))
    return names


def test_what_is_used_of_tensorrt_exists_in_its_sibling() -> None:
    """TensorRT-RTX's API is TensorRT's, save for what only the full one has."""
    trt = pytest.importorskip("tensorrt_rtx")
    used = attributes_of_trt("builder") | attributes_of_trt("session")
    assert len(used) >= 8
    for name in used:
        value = trt
        for part in name.split("."):
            assert hasattr(value, part), f"tensorrt_rtx has no {name}"
            value = getattr(value, part)
    for level in ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"):
        assert hasattr(trt.HardwareCompatibilityLevel, level)


def test_a_plan_that_brings_its_own_code_may_be_inspected() -> None:
    """A version-compatible one does; without this word TensorRT does not load it."""
    trt = pytest.importorskip("tensorrt_rtx")
    assert hasattr(trt.Runtime, "engine_host_code_allowed")
    (source,) = (
        text
        for path in SOURCES.glob("*.py")
        if "deserialize_cuda_engine" in (text := path.read_text(encoding="utf-8"))
    )
    assert "runtime.engine_host_code_allowed = True" in source


def test_what_is_used_of_an_engine_exists_in_its_sibling() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    source = (SOURCES / "session.py").read_text(encoding="utf-8")
    for cls, names in {
        trt.ICudaEngine: (
            "get_tensor_name", "num_io_tensors", "get_tensor_mode", "get_tensor_dtype",
            "num_optimization_profiles", "get_tensor_profile_shape", "create_execution_context",
        ),
        trt.IExecutionContext: (
            "set_optimization_profile_async", "set_input_shape", "get_tensor_shape",
            "set_tensor_address", "execute_async_v3",
        ),
    }.items():  # fmt: skip
        for name in names:
            assert name in source, f"{name} is listed here and not used"
            assert hasattr(cls, name)
