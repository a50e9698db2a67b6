"""ONNX Runtime's GPU providers, as far as a machine with no GPU shows.

That nothing falls back in silence is checked on the real thing: the CPU provider stands in for the
GPU's where a session is needed, since ONNX Runtime records placements the same way for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter import host
from exporter.artifact import Dialect, ElementType, Kernel, Operation, Precision
from exporter.errors import BuildError, MissingDependencyError, UsageError, install_command
from exporter.targets import UnreadableKernels, get_target
from exporter.targets.ort.cuda import OrtCuda, unfused_where_shown
from exporter.targets.ort.cuda_options import OPTIONS, options_for, time_layouts
from exporter.targets.ort.gpu import (
    CPU_PROVIDER,
    OrtGpuTarget,
    check_placement,
    gpu_session,
    placements,
)
from exporter.targets.ort.session import OrtSession, make_session, session_options
from exporter.targets.ort.tensorrt import OrtTensorRt, build_options, embedded_engine
from exporter.targets.tensorrt.settings import Profile, TensorRtSettings
from tests.graphs import random as numbers

GPU_HERE = host.describe_host().gpu is not None


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    weights = numpy_helper.from_array(numbers(4, 3, 3, 3), "w")
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
                helper.make_node("Sigmoid", ["c"], ["y"], name="sigmoid"),
            ],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 6, 6])],
            [weights],
        ),
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
    )
    onnx.save(model, tmp_path / "g.onnx")
    return tmp_path / "g.onnx"


@pytest.mark.skipif(GPU_HERE, reason="there is a GPU here")
@pytest.mark.parametrize("name", ["ort-cuda", "ort-tensorrt"])
def test_without_the_library_the_error_says_what_to_install(name: str) -> None:
    with pytest.raises(MissingDependencyError) as caught:
        get_target(name)
    message = str(caught.value)
    assert f"target {name} needs onnxruntime-gpu" in message
    # The two distributions overwrite each other: one goes before the other comes.
    assert f"pip uninstall -y onnxruntime && {install_command('gpu')}" in message


@pytest.mark.parametrize("name", ["ort-cuda", "ort-tensorrt"])
def test_without_a_gpu_the_error_names_targets_that_need_none(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", CPU_PROVIDER]
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    if GPU_HERE:
        pytest.skip("there is a GPU here")
    with pytest.raises(MissingDependencyError, match="no driver answers here; use ort-cpu"):
        get_target(name)


def test_every_node_has_a_recorded_provider(graph: Path) -> None:
    session = gpu_session(graph, CPU_PROVIDER, {}, allow_fallback=True)
    assert placements(session) == {"conv": CPU_PROVIDER, "sigmoid": CPU_PROVIDER}


@pytest.mark.parametrize("allowed", [True, False])
def test_a_provider_that_is_not_there_is_an_error(graph: Path, allowed: bool) -> None:
    """`--allow-fallback` accepts single nodes on the CPU, not a whole session."""
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("the CUDA provider is installed")
    with pytest.raises(BuildError, match="has no CUDAExecutionProvider; onnxruntime-gpu has it"):
        gpu_session(graph, "CUDAExecutionProvider", {}, allow_fallback=allowed)


def test_a_session_that_fell_back_is_an_error_even_where_nodes_may() -> None:
    with pytest.raises(BuildError, match="fell back from CUDAExecutionProvider to CPU"):
        check_placement(CPU_PROVIDER, {}, "CUDAExecutionProvider", True)


def test_a_node_on_the_cpu_is_an_error_unless_allowed() -> None:
    placed = {"conv": "CUDAExecutionProvider", "resize": CPU_PROVIDER}
    with pytest.raises(
        BuildError, match=r"1 of 2 nodes are not on .* \(resize\); --allow-fallback"
    ):
        check_placement("CUDAExecutionProvider", placed, "CUDAExecutionProvider", False)
    check_placement("CUDAExecutionProvider", placed, "CUDAExecutionProvider", True)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> OrtCuda:
    """The target where it could not be made; its methods that need no GPU are asked."""
    monkeypatch.setattr("exporter.targets.ort.gpu.require_provider", lambda *_: None)
    return OrtCuda()


def test_cuda_refuses_int8_with_the_reason(cuda: OrtCuda) -> None:
    with pytest.raises(UsageError, match=r"no 8-bit convolution .* --target tensorrt"):
        cuda.dialect(Precision.INT8)


def test_cuda_fuses_residuals_in_fp32_alone(cuda: OrtCuda) -> None:
    assert cuda.dialect(Precision.FP32) is Dialect.FLOAT_FUSED
    assert cuda.dialect(Precision.FP16) is Dialect.FLOAT


def test_cuda_options_leave_tf32_off() -> None:
    assert OPTIONS["use_tf32"] == "0"
    assert all(isinstance(value, str) for value in OPTIONS.values())


def test_cuda_without_a_profile_is_unverified(cuda: OrtCuda, tmp_path: Path) -> None:
    with pytest.raises(UnreadableKernels, match="no profile of the engine's run"):
        cuda.kernels(tmp_path / "fp32.onnx")
    (tmp_path / "fp32.profile.json").write_text(
        '{"allow_fallback": false, "placements": {}, "cuda_kernels": []}', encoding="utf-8"
    )
    with pytest.raises(UnreadableKernels, match="may have run as several"):
        cuda.kernels(tmp_path / "fp32.onnx")


FUSED = Kernel(
    name="layer1.0.conv2",
    op="FusedConv",
    does=(Operation.CONV, Operation.ADD, Operation.RELU),
    dtype=ElementType.FP32,
    inputs=("t1", "t0"),
    outputs=("layer1.0.relu_1",),
    labels=("layer1.0.add",),
)
# As an NVIDIA H200 with cuDNN 9.19 names them, cut short.
WHOLE = ["void implicit_convolve_sgemm<float, float, 1024, 5, 5, 3, 3, 3, 1, false>(...)"]
ADDITION = "void op_generic_tensor_kernel<3, float, float, float, 256, (cudnnGenericOp_t)0>(...)"
SEPARATE = [*WHOLE, ADDITION]


def test_cuda_kernels_that_show_no_separate_sum_leave_the_fusion() -> None:
    assert unfused_where_shown((FUSED,), WHOLE) == (FUSED,)


def test_cuda_kernels_that_show_a_separate_sum_undo_the_fusion() -> None:
    conv, rest = unfused_where_shown((FUSED,), SEPARATE)
    assert (conv.does, rest.does) == (("conv",), ("add", "relu"))
    assert conv.outputs[0] in rest.inputs
    assert "t0" in rest.inputs
    assert rest.outputs == FUSED.outputs


def test_an_activation_of_cudnns_own_undoes_the_fusion() -> None:
    shown = [*WHOLE, "void cudnn::ops::activation_fw_4d_kernel<float, float, 128, 1>(...)"]
    assert len(unfused_where_shown((FUSED,), shown)) == 2


def test_a_plain_convolutions_bias_explains_one_addition_and_no_more() -> None:
    projection = replace(FUSED, name="projection", op="Conv", does=(Operation.CONV,))
    assert unfused_where_shown((FUSED, projection), SEPARATE) == (FUSED, projection)
    assert len(unfused_where_shown((FUSED, projection), [*SEPARATE, ADDITION])) == 3


def test_cuda_engines_are_one_graph_unless_nodes_may_be_on_the_cpu() -> None:
    assert options_for(allow_fallback=False)["enable_cuda_graph"] == "1"
    assert options_for(allow_fallback=True)["enable_cuda_graph"] == "0"


def test_both_layouts_of_a_half_engine_are_timed_as_it_is_run(graph: Path) -> None:
    opened = []

    def open_with(given: Mapping[str, str]) -> OrtSession:
        opened.append(dict(given))
        return OrtSession(make_session(graph, session_options(1)))

    found = time_layouts(open_with, {"use_tf32": "0"}, {"x": numbers(2, 3, 8, 8)})
    assert opened == [{"use_tf32": "0", "prefer_nhwc": value} for value in ("0", "1")]
    assert set(found) == {"0", "1"}
    assert all(0 < ms < 1e4 for ms in found.values())


def test_tensorrt_provider_options() -> None:
    image = {"input": ("batch", 3, 224, 224)}
    settings = TensorRtSettings(profile=Profile(1, 4, 16), timing_cache="/cache")
    options = build_options(Precision.FP16, settings, image, "10.9.0", Path("fp16.onnx"))
    assert options["trt_ep_context_embed_mode"] == "1"
    assert options["trt_ep_context_file_path"] == "fp16.onnx"
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == ("True", "False")
    assert options["trt_profile_min_shapes"] == "input:1x3x224x224"
    assert options["trt_profile_opt_shapes"] == "input:4x3x224x224"
    assert options["trt_profile_max_shapes"] == "input:16x3x224x224"
    assert options["trt_timing_cache_path"] == "/cache"
    both = {"rgb": ("batch", 3, 64, 64), "meta": ("batch", 6)}
    options = build_options(Precision.FP16, settings, both, "10.9.0", Path("fp16.onnx"))
    assert options["trt_profile_opt_shapes"] == "rgb:4x3x64x64,meta:4x6"


def test_tensorrt_11_has_no_precision_flags_and_a_fixed_batch_no_profile() -> None:
    image = {"input": (4, 3, 224, 224)}
    options = build_options(Precision.FP16, TensorRtSettings(), image, "11.1", Path("fp16.onnx"))
    assert not [key for key in options if key.endswith("_enable") and "fp16" in key]
    assert not [key for key in options if "profile" in key]
    assert "trt_timing_cache_enable" not in options


def context_model(path: Path, *beside: str) -> Path:
    """An EPContext model as ONNX Runtime writes it, with an engine of a few bytes."""
    nodes = [
        helper.make_node(
            "EPContext",
            ["x"],
            ["y"],
            domain="com.microsoft",
            embed_mode=1,
            ep_cache_context=b"engine\x00bytes",
        ),
        *[helper.make_node(op, ["y"], [f"y{i}"], name=op) for i, op in enumerate(beside)],
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [image], [output])), path)
    return path


def test_the_embedded_engine_is_found(tmp_path: Path) -> None:
    assert embedded_engine(context_model(tmp_path / "c.onnx"), False) == b"engine\x00bytes"


def test_nodes_outside_the_engine_are_an_error_unless_allowed(tmp_path: Path) -> None:
    path = context_model(tmp_path / "c.onnx", "Resize", "Softmax")
    with pytest.raises(BuildError, match=r"left 2 nodes outside its engine \(Resize, Softmax\)"):
        embedded_engine(path, False)
    assert embedded_engine(path, True) == b"engine\x00bytes"


def test_a_context_model_that_was_not_written(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="wrote no EPContext model"):
        embedded_engine(tmp_path / "c.onnx", False)


@pytest.mark.parametrize(
    ("target_class", "account"), [(OrtCuda, "g.profile.json"), (OrtTensorRt, "g.build.json")]
)
def test_an_engine_opens_with_the_fallback_that_its_build_was_allowed(
    target_class: type[OrtGpuTarget], account: str, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU provider stands in for the GPU's: without fallback, it may run no node itself."""
    monkeypatch.setattr("exporter.targets.ort.gpu.require_provider", lambda *_: None)
    for module in ("cuda", "tensorrt"):
        monkeypatch.setattr(f"exporter.targets.ort.{module}.PROVIDER", CPU_PROVIDER)
    monkeypatch.setattr("exporter.targets.ort.cuda.OPTIONS", {})
    target = target_class()
    beside = graph.with_name(account)
    beside.write_text('{"allow_fallback": true}', encoding="utf-8")
    with target.open(graph, 1) as session:
        assert session.run(numbers(2, 3, 8, 8)).shape == (2, 4, 6, 6)
    for text in ('{"allow_fallback": false}', "{}", "not JSON"):
        beside.write_text(text, encoding="utf-8")
        with pytest.raises(BuildError, match=r"--allow-fallback accepts"):
            target.open(graph, 1)
    beside.unlink()
    with pytest.raises(BuildError, match=r"--allow-fallback accepts"):
        target.open(graph, 1)


def test_tensorrt_provider_does_not_show_layers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("exporter.targets.ort.gpu.require_provider", lambda *_: None)
    with pytest.raises(UnreadableKernels, match="the target tensorrt does"):
        OrtTensorRt().kernels(tmp_path / "fp16.onnx")
