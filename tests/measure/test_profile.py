"""Time per block: read from the runtimes' own profilers, accounted for kernel by kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporter.artifact import ElementType, Kernel, Operation, Precision
from exporter.measure.layers import Layer, layers_of
from exporter.measure.profile import summarize
from exporter.targets import BuildOptions, CanProfile, get_target

BLOCKS = ("layer1.0", "layer1.1")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution of two groups and a matrix product."""
    path = tmp_path_factory.mktemp("graph") / "small.onnx"
    generator = np.random.default_rng(0)
    weights = {"conv.weight": (8, 2, 3, 3), "conv.bias": (8,), "fc.weight": (5, 8), "fc.bias": (5,)}
    nodes = [
        helper.make_node(
            "Conv", ["x", "conv.weight", "conv.bias"], ["conv"], "conv", group=2, pads=[1] * 4
        ),
        helper.make_node("GlobalAveragePool", ["conv"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["y"], "fc", transB=1),
    ]
    float32 = onnx.TensorProto.FLOAT
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", float32, ["batch", 4, 16, 16])],
        [helper.make_tensor_value_info("y", float32, ["batch", 5])],
        [
            numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=10), path)
    return path


def test_layers_are_counted_for_one_image(graph: Path) -> None:
    layers = layers_of(graph)
    conv, gemm = layers["conv"], layers["fc"]
    assert layers["y"] is gemm
    # Two groups: each output is made of two of the four channels.
    assert conv == Layer("conv", 8 * 256 * 2 * 9, 4 * 256, 8 * 256, 8 * 2 * 9)
    assert gemm == Layer("fc", 8 * 5, 8, 5, 40)


@pytest.mark.parametrize("name", ["ort-cpu", "openvino"])
def test_the_runtime_times_every_kernel_that_the_receipt_counts(
    name: str, graph: Path, tmp_path: Path
) -> None:
    target = get_target(name)
    assert isinstance(target, CanProfile)
    built = target.build(graph, Precision.FP32, tmp_path / "fp32", BuildOptions())
    batch = np.random.default_rng(0).standard_normal((1, 4, 16, 16)).astype(np.float32)
    runs, source = target.profile(built.files[0], 1, batch, 0.01)
    listed, _ = target.kernels(built.files[0])
    assert len(runs) >= 3
    for run in runs:
        assert [kernel for kernel, _ in run] == list(listed)
        assert all(time_us >= 0 for _, time_us in run)
    assert "profiler" in source or "counters" in source
    profile = summarize(runs, source, layers_of(graph), (), 1, 1)
    assert len(profile.layers) == 2
    assert profile.outside_us == pytest.approx(profile.total_us)


def timed(
    label: str, time_us: float, *does: Operation, inputs: tuple[str, ...] = ()
) -> tuple[Kernel, float]:
    kernel = Kernel(
        name=label, op="Conv", does=does, dtype=ElementType.INT8, inputs=inputs,
        outputs=(f"{label}.out",), labels=(label,), output_dtypes=(ElementType.INT8,),
    )  # fmt: skip
    return kernel, time_us


def test_times_are_medians_and_shares_add_up() -> None:
    layers = {
        "layer1.0.conv2": Layer("layer1.0.conv2", macs=1000, inputs=20, outputs=30, weights=50)
    }
    runs = [
        [
            timed("conv1", 10 * slow, Operation.CONV),
            timed("layer1.0.conv2", 20 * slow, Operation.CONV, Operation.ADD, Operation.RELU),
            timed("layer1.1.conv1", 30 * slow, Operation.CONV),
            timed("layer1.1.add", 40 * slow, Operation.ADD),
        ]
        for slow in (1, 1, 50)
    ]
    profile = summarize(runs, "test", layers, BLOCKS, 2, 1)
    assert (profile.total_us, profile.outside_us) == (100, 10)
    assert [(b.name, b.microseconds, b.share) for b in profile.blocks] == [
        ("layer1.0", 20, 0.2),
        ("layer1.1", 70, 0.7),
    ]
    (layer,) = profile.layers
    assert (layer.name, layer.block, layer.macs) == ("layer1.0.conv2", "layer1.0", 2000)
    # One byte an element: weights once, input, output and the fused shortcut for two images.
    assert layer.bytes == 50 + 2 * (20 + 30 + 30)


def test_a_kernel_of_two_blocks_counts_half_for_each() -> None:
    kernel, time_us = timed("layer1.0.conv1", 8.0, Operation.CONV)
    both = Kernel(**{**kernel.__dict__, "labels": ("layer1.0.conv1", "layer1.1.conv1")})
    profile = summarize([[(both, time_us)]], "test", {}, BLOCKS, 1, 1)
    assert [b.microseconds for b in profile.blocks] == [4.0, 4.0]
