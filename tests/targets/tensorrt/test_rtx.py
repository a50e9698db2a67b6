"""TensorRT-RTX for real: plans built with no GPU, and what the builder says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporter.artifact import ElementType, Precision, Skipped, Verdict
from exporter.errors import BuildError, MissingDependencyError, UsageError
from exporter.targets import BuildOptions, UnreadableKernels, get_target
from exporter.targets.tensorrt.rtx import (
    VARIANTS,
    TensorRtRtx,
    layers_of,
    read_layers,
    recommendation,
)
from exporter.targets.tensorrt.types import asked_types, check_types
from tests.targets.tensorrt.plans import Lowered, build, lowered, receipt

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel here")


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    """64 x 64 pixels: the kernels are those of 224, on smaller images."""
    return lowered("resnet18", tmp_path_factory.mktemp("resnet18"), 64, "fp32 fp16 bf16 int8 fp8")


@pytest.mark.parametrize(
    ("variant", "precision"),
    [
        ("sm86", Precision.FP32),
        ("sm89", Precision.FP16),
        ("sm120", Precision.FP16),
        ("portable", Precision.FP16),
        ("sm89", Precision.BF16),
        ("sm120", Precision.BF16),
    ],
)
def test_every_sum_is_inside_a_convolution(
    resnet18: Lowered, tmp_path: Path, variant: str, precision: Precision
) -> None:
    target = f"tensorrt-rtx:{variant}"
    plan = build(resnet18.files[precision], precision, tmp_path, target)
    result = receipt(plan, precision, resnet18.facts, target)
    assert result.reason is None
    assert result.verdict is result.expected is Verdict.FUSED
    assert (result.convs, result.batchnorms_folded) == (20, 20)
    assert (result.residual_adds_fused, result.residual_adds) == (8, 8)
    assert (result.float_ops, result.convs_quantized) == (0, 0)
    assert result.convs_by_type == {ElementType(precision): 20}
    assert [block.name for block in result.blocks][2:4] == ["layer2.0", "layer2.1"]
    assert all(block.add_fused for block in result.blocks)


def test_int8_is_partial_and_fp16_is_advised(resnet18: Lowered, tmp_path: Path) -> None:
    plan = build(resnet18.files[Precision.INT8], Precision.INT8, tmp_path)
    result = receipt(plan, Precision.INT8, resnet18.facts)
    assert result.verdict is result.expected is Verdict.PARTIAL
    assert result.convs_quantized == result.convs == 20
    assert (result.residual_adds_fused, result.residual_adds) == (0, 8)
    assert result.float_ops == 16
    assert "8 of 8 residual adds are not fused" in str(result.reason)
    listed = read_layers(layers_of(plan))
    advice = recommendation(listed, Precision.INT8)
    assert advice is not None
    assert "20 of which write FP32, and 17 pointwise kernels" in advice
    assert "--precision fp16" in advice
    assert recommendation(listed, Precision.FP16) is None


def test_fp16_is_not_advised_against(resnet18: Lowered, tmp_path: Path) -> None:
    plan = build(resnet18.files[Precision.FP16], Precision.FP16, tmp_path)
    assert recommendation(read_layers(layers_of(plan)), Precision.FP16) is None


def test_qdq_on_the_main_branch_is_reported_with_its_block(
    resnet18: Lowered, tmp_path: Path
) -> None:
    """Planted in one identity block and in one with a projection."""
    model = onnx.load(resnet18.files[Precision.INT8])
    for block in ("layer2.0", "layer3.1"):
        quantize_output(model, f"{block}.conv2")
    onnx.save(model, tmp_path / "planted.onnx")
    plan = build(tmp_path / "planted.onnx", Precision.INT8, tmp_path)
    result = receipt(plan, Precision.INT8, resnet18.facts)
    assert "Q/DQ on the main branch before the sum of layer2.0, layer3.1" in str(result.reason)
    named = [
        block.name for block in result.blocks if "quantizes the main branch" in str(block.reason)
    ]
    assert named == ["layer2.0", "layer3.1"]


def quantize_output(model: onnx.ModelProto, name: str) -> None:
    """Puts Q and DQ between a convolution and its readers."""
    graph = model.graph
    scale, zero = f"{name}.planted.scale", f"{name}.planted.zero_point"
    arrays = {a.name: numpy_helper.to_array(a) for a in graph.initializer}
    some_scale = next(a for n, a in arrays.items() if n.endswith(".scale") and a.ndim == 0)
    some_zero = next(a for n, a in arrays.items() if n.endswith(".zero_point") and a.ndim == 0)
    graph.initializer.append(numpy_helper.from_array(some_scale, scale))
    graph.initializer.append(numpy_helper.from_array(some_zero, zero))
    quantized, dequantized = f"{name}.planted.q", f"{name}.planted.dq"
    at = next(i for i, node in enumerate(graph.node) if node.output[0] == name)
    for node in graph.node:
        for i, read in enumerate(node.input):
            if read == name:
                node.input[i] = dequantized
    pair = [
        helper.make_node("QuantizeLinear", [name, scale, zero], [quantized], name=quantized),
        helper.make_node(
            "DequantizeLinear", [quantized, scale, zero], [dequantized], name=dequantized
        ),
    ]
    for node in reversed(pair):
        graph.node.insert(at + 1, node)


def test_a_sum_with_a_second_reader_is_reported_with_its_block(
    resnet18: Lowered, tmp_path: Path
) -> None:
    model = onnx.load(resnet18.files[Precision.FP16])
    projection = next(n for n in model.graph.node if n.name == "layer3.0.downsample.0")
    assert projection.input[0] == "layer2.1.relu_1"
    projection.input[0] = "layer2.1.add"
    onnx.save(model, tmp_path / "planted.onnx")
    plan = build(tmp_path / "planted.onnx", Precision.FP16, tmp_path)
    result = receipt(plan, Precision.FP16, resnet18.facts)
    assert result.verdict is Verdict.PARTIAL
    assert result.float_ops == 1
    (leftover,) = result.leftovers
    assert leftover[1] == "layer2.1"
    assert "layer2.1" in str(result.reason)


def test_a_plan_holds_no_path_of_this_machine(resnet18: Lowered, tmp_path: Path) -> None:
    plan = build(resnet18.files[Precision.FP16], Precision.FP16, tmp_path)
    for path in (plan, layers_of(plan)):
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content
        assert str(Path.home()).encode() + b"/" not in content
        assert str(resnet18.files[Precision.FP16].parent).encode() not in content


def test_the_manifest_says_that_plans_are_not_reproducible(
    resnet18: Lowered, tmp_path: Path
) -> None:
    """And that what differs are names: kernels, types and weights do not."""
    target = get_target("tensorrt-rtx:sm89")
    results = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        results.append(
            target.build(
                resnet18.files[Precision.FP16],
                Precision.FP16,
                tmp_path / name / "fp16",
                BuildOptions(),
            )
        )
    assert str(results[0].requires["reproducible"]).startswith("no: ")
    first, second = (read_layers(layers_of(result.files[0])) for result in results)
    assert [(k.op, k.does, k.labels) for k in first.kernels()] == [
        (k.op, k.does, k.labels) for k in second.kernels()
    ]
    sizes = [result.files[0].stat().st_size for result in results]
    assert sizes[0] == sizes[1]
    one, other = (np.fromfile(result.files[0], np.uint8) for result in results)
    assert np.count_nonzero(one != other) < sizes[0] // 1000


def test_requirements(resnet18: Lowered, tmp_path: Path) -> None:
    options = BuildOptions(settings={"profile": "2:4:6"})
    told: list[str] = []
    result = get_target("tensorrt-rtx:sm86").build(
        resnet18.files[Precision.FP16],
        Precision.FP16,
        tmp_path / "fp16",
        BuildOptions(settings=options.settings, report=told.append),
    )
    assert result.requires["compute_capability"] == "8.6"
    assert result.requires["versions"] == {"tensorrt_rtx": tensorrt_rtx.__version__}
    assert result.requires["profile"] == "2:4:6"
    assert result.requires["tf32"] is False
    assert result.requires["build"]["memory_mb"] > 100
    assert told[0] == "tensorrt-rtx:sm86 fp16: parse"
    assert "tensorrt-rtx:sm86 fp16: build" in told
    listed = layers_of(result.files[0]).read_text(encoding="utf-8")
    assert "MinShape: [2,3,64,64], OptShape: [4,3,64,64], MaxShape: [6,3,64,64]" in listed


def test_types_that_were_not_asked_for_are_an_error(resnet18: Lowered, tmp_path: Path) -> None:
    """The old trap: asked for FP16 with a graph that is FP32."""
    with pytest.raises(BuildError, match="no convolution of the lowered graph is in fp16"):
        build(resnet18.files[Precision.FP32], Precision.FP16, tmp_path)
    assert not list(tmp_path.iterdir())


def test_types_that_were_built_otherwise_are_an_error(resnet18: Lowered, tmp_path: Path) -> None:
    plan = build(resnet18.files[Precision.FP16], Precision.FP16, tmp_path)
    listed = read_layers(layers_of(plan))
    asked = asked_types(resnet18.files[Precision.FP16])
    assert asked == dict.fromkeys(asked, "fp16")
    check_types(listed, asked, Precision.FP16, "x")
    with pytest.raises(BuildError, match=r"1 of 20 .*layer1.0.conv1 in fp16 instead of fp32"):
        check_types(listed, asked | {"layer1.0.conv1": ElementType.FP32}, Precision.FP16, "x")


def test_asked_types_of_a_quantized_graph(resnet18: Lowered) -> None:
    asked = asked_types(resnet18.files[Precision.INT8])
    assert len(asked) == 20
    assert set(asked.values()) == {"int8"}


def test_a_fixed_batch_needs_no_profile(resnet18: Lowered, tmp_path: Path) -> None:
    model = onnx.load(resnet18.files[Precision.FP16])
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "fixed.onnx")
    result = TensorRtRtx("sm89").build(
        tmp_path / "fixed.onnx", Precision.FP16, tmp_path / "fp16", BuildOptions()
    )
    assert result.requires["profile"] == "fixed batch"
    fixed = receipt(result.files[0], Precision.FP16, resnet18.facts)
    assert fixed.verdict is Verdict.FUSED


def test_a_missing_or_foreign_layer_list_is_unverified(tmp_path: Path) -> None:
    (tmp_path / "fp16.plan").write_bytes(b"plan")
    target = get_target("tensorrt-rtx")
    with pytest.raises(UnreadableKernels, match="no layer list to read"):
        target.kernels(tmp_path / "fp16.plan")
    (tmp_path / "fp16.layers.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableKernels):
        target.kernels(tmp_path / "fp16.plan")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorrt-rtx:sm90", "does not support sm90"),
        ("tensorrt-rtx:sm100", "does not support sm100"),
        ("tensorrt-rtx:sm88", "did you mean sm89"),
        ("tensorrt-rtx:ada", "variant of target tensorrt-rtx 'ada'"),
    ],
)
def test_variants_that_do_not_exist(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_target(name)


def test_variants_are_those_of_the_library() -> None:
    known = {name.lower() for name in tensorrt_rtx.ComputeCapability.__members__}
    assert set(VARIANTS) - {"portable"} == known - {"none", "current"}


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_sm75_has_no_fp32_product(
    resnet18: Lowered, tmp_path: Path, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    turing = TensorRtRtx("sm75")
    with pytest.raises(UsageError, match="ask for fp16"):
        turing.dialect(precision)
    # It is the library that cannot: without the early refusal its own error comes through.
    with pytest.raises(BuildError, match="FP32 GEMM is not supported"):
        turing.build(
            resnet18.files[precision], precision, tmp_path / str(precision), BuildOptions()
        )
    assert not list(tmp_path.iterdir())


def test_sm75_has_fp16(resnet18: Lowered, tmp_path: Path) -> None:
    target = "tensorrt-rtx:sm75"
    plan = build(resnet18.files[Precision.FP16], Precision.FP16, tmp_path, target)
    assert receipt(plan, Precision.FP16, resnet18.facts, target).verdict is Verdict.FUSED


def test_sm75_has_no_bf16(resnet18: Lowered, tmp_path: Path) -> None:
    turing = TensorRtRtx("sm75")
    with pytest.raises(UsageError, match=r"sm75 \(compute capability 7.5\) has no BF16"):
        turing.dialect(Precision.BF16)
    with pytest.raises(BuildError, match="HW-specific datatypes"):
        turing.build(
            resnet18.files[Precision.BF16], Precision.BF16, tmp_path / "bf16", BuildOptions()
        )


def test_a_portable_plan_in_bf16_names_the_gpus_that_have_it(
    resnet18: Lowered, tmp_path: Path
) -> None:
    graph, options = resnet18.files[Precision.BF16], BuildOptions()
    built = TensorRtRtx().build(graph, Precision.BF16, tmp_path / "bf16", options)
    assert built.requires["compute_capability"].endswith("compute capability 8.0 and later")


def test_fp8_is_built_as_int8_is_and_says_so(resnet18: Lowered, tmp_path: Path) -> None:
    plan = build(resnet18.files[Precision.FP8], Precision.FP8, tmp_path)
    result = receipt(plan, Precision.FP8, resnet18.facts)
    assert result.verdict is result.expected is Verdict.PARTIAL
    assert result.convs_by_type == {ElementType.FP32: 1, ElementType.FP8: 19}  # the stem
    assert (result.residual_adds_fused, result.residual_adds) == (0, 8)
    assert "8 of 8 residual adds are not fused" in str(result.reason)
    advice = recommendation(read_layers(layers_of(plan)), Precision.FP8)
    assert advice is not None
    assert "compiles FP8 to 20 convolutions" in advice


@pytest.mark.parametrize("variant", ["sm75", "sm80", "sm86"])
def test_gpus_before_ada_have_no_fp8(variant: str) -> None:
    with pytest.raises(
        UsageError, match=f"{variant} .* has no FP8 arithmetic, which came with 8.9"
    ):
        TensorRtRtx(variant).dialect(Precision.FP8)


def test_without_a_gpu_a_plan_is_built_and_not_run(tmp_path: Path) -> None:
    target = TensorRtRtx("sm89")
    reason = target.runs_here()
    if reason is None:
        pytest.skip("there is a GPU here")
    assert isinstance(reason, Skipped)
    assert "built, not run here" in reason.skipped
    with pytest.raises(BuildError, match="not run here"):
        target.open(tmp_path / "fp16.plan", 1)


def test_without_the_library_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exporter.targets.diagnosis.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="pip install tensorrt-rtx-cu13"):
        get_target("tensorrt-rtx")


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    return lowered("resnet50", tmp_path_factory.mktemp("resnet50"), None, "fp16 int8")


def test_resnet50_on_sm89(resnet50: Lowered, tmp_path: Path) -> None:
    """The promised receipts: FP16 16 of 16, INT8 0 of 16 with FP32 between."""
    half = receipt(
        build(resnet50.files[Precision.FP16], Precision.FP16, tmp_path),
        Precision.FP16,
        resnet50.facts,
    )
    assert (half.verdict, half.convs) == (Verdict.FUSED, 53)
    assert (half.residual_adds_fused, half.residual_adds) == (16, 16)
    plan = build(resnet50.files[Precision.INT8], Precision.INT8, tmp_path)
    quantized = receipt(plan, Precision.INT8, resnet50.facts)
    assert (quantized.verdict, quantized.convs_quantized) == (Verdict.PARTIAL, 53)
    assert (quantized.residual_adds_fused, quantized.residual_adds) == (0, 16)
    advice = recommendation(read_layers(layers_of(plan)), Precision.INT8)
    assert "53 of which write FP32, and 49 pointwise kernels" in str(advice)
    assert sum(layer.type == "kgen" for layer in read_layers(layers_of(plan)).layers) == 51


ACCOUNTS = {
    "resnet18": (20, 8), "resnet34": (36, 16), "resnet101": (104, 33), "resnet152": (155, 50),
    "resnext50_32x4d": (53, 16), "wide_resnet50_2": (53, 16),
}  # fmt: skip


@pytest.mark.variants
@pytest.mark.parametrize("name", ACCOUNTS)
def test_fp16_receipts_of_the_variants_are_complete(name: str, tmp_path: Path) -> None:
    model = lowered(name, tmp_path, None, "fp16")
    plan = build(model.files[Precision.FP16], Precision.FP16, tmp_path)
    result = receipt(plan, Precision.FP16, model.facts)
    assert result.reason is None
    assert (result.convs, result.residual_adds_fused) == ACCOUNTS[name]
    assert result.verdict is Verdict.FUSED
