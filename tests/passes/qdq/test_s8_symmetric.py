"""The dialect s8-symmetric: the placement that TensorRT fuses, in float32 and in float16."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from exporter.artifact import Dialect, Precision
from exporter.errors import UsageError
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.passes.blocks import find_residual_blocks
from exporter.passes.qdq.ranges import Ranges
from exporter.passes.values import constant, is_op
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from exporter.targets import BuildOptions, get_target
from tests.graphs import Array, random, relative_error, run
from tests.modules import resnet
from tests.samples import samples_of

S8 = Dialect.S8_SYMMETRIC
IMAGES = random(4, 3, 64, 64, seed=11, low=-2.0, high=2.0)
RELATIVE_ERROR = 0.05
MODELOPT = Path(__file__).parents[2] / "reference" / "modelopt_placement.json"


@pytest.fixture(scope="module")
def resnet50() -> tuple[ir.Model, Ranges, Array]:
    """The optimized network, its ranges and its answers."""
    graph, _ = optimize(export(resnet("resnet50", size=64)))
    ranges = calibrate(graph, samples_of(IMAGES), progress=Silent())
    return graph, ranges, run(graph, IMAGES)


@pytest.fixture(scope="module", params=[Precision.FP32, Precision.FP16], ids=str)
def lowered(
    request: pytest.FixtureRequest, resnet50: tuple[ir.Model, Ranges, Array]
) -> tuple[ir.Model, Precision]:
    graph, ranges, _ = resnet50
    result, _ = lower(graph, Lowering(Precision.INT8, S8, ranges=ranges, float_type=request.param))
    return result, request.param


def producer(node: ir.Node, index: int) -> ir.Node:
    value = node.inputs[index]
    assert value is not None
    found = value.producer()
    assert found is not None
    return found


def test_each_sum_has_one_quantized_input_and_one_from_a_convolution(
    lowered: tuple[ir.Model, Precision],
) -> None:
    model, _ = lowered
    adds = [node for node in model.graph if is_op(node, "Add")]
    blocks = find_residual_blocks(model)
    assert len(adds) == len(blocks) == 16
    for add in adds:
        kinds = sorted(producer(add, index).op_type for index in (0, 1))
        assert kinds == ["Conv", "DequantizeLinear"], add.name
        conv = next(p for p in map(producer, (add, add), (0, 1)) if is_op(p, "Conv"))
        # The main branch's last convolution, not the projection's.
        assert str(conv.name).endswith("conv3"), add.name


def test_an_identity_shares_the_pair_of_the_blocks_first_convolution(
    lowered: tuple[ir.Model, Precision],
) -> None:
    model, _ = lowered
    shared = 0
    for add in (node for node in model.graph if is_op(node, "Add")):
        shortcut = next(p for p in map(producer, (add, add), (0, 1)) if not is_op(p, "Conv"))
        readers = {reader.op_type for reader, _ in shortcut.outputs[0].uses()}
        shared += readers == {"Add", "Conv"}
    assert shared == 12  # sixteen blocks less four projections


def test_every_zero_point_is_zero_and_every_weight_per_channel_on_axis_0(
    lowered: tuple[ir.Model, Precision],
) -> None:
    model, between = lowered
    float_type = ir.DataType.FLOAT if between is Precision.FP32 else ir.DataType.FLOAT16
    pairs = [node for node in model.graph if is_op(node, "QuantizeLinear", "DequantizeLinear")]
    for node in pairs:
        zero_point, scale = constant(node.inputs[2]), constant(node.inputs[1])
        assert zero_point is not None
        assert scale is not None
        assert zero_point.dtype == np.int8
        assert not zero_point.any(), node.name
        assert scale.dtype == float_type.numpy()
    for node in model.graph:
        if is_op(node, "Conv", "Gemm"):
            weight = producer(node, 1)
            codes, scale = constant(weight.inputs[0]), constant(weight.inputs[1])
            assert codes is not None
            assert scale is not None
            assert scale.shape == codes.shape[:1]
            assert weight.attributes.get_int("axis", 1) == 0
            assert is_op(producer(node, 0), "DequantizeLinear"), node.name
            bias = node.inputs[2]
            assert bias is not None
            assert bias.dtype is float_type, "the bias stays float"
    counts = Counter(node.op_type for node in pairs)
    # The input of each convolution and of the Gemm, shared where two read the same tensor, and the
    # output of each of the four projections.
    assert counts["QuantizeLinear"] == 54
    assert counts["DequantizeLinear"] == 54 + 54


def test_the_numbers_are_near(
    lowered: tuple[ir.Model, Precision], resnet50: tuple[ir.Model, Ranges, Array]
) -> None:
    assert relative_error(run(lowered[0], IMAGES), resnet50[2]) < RELATIVE_ERROR


def test_the_library_parses_and_builds_it(
    lowered: tuple[ir.Model, Precision], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel here")
    path = tmp_path / "int8.onnx"
    save(lowered[0], path)
    target = get_target("tensorrt-rtx:sm89")
    plan = target.build(path, Precision.INT8, tmp_path / "int8", BuildOptions()).files[0]
    kernels, _ = target.kernels(plan)
    assert sum("conv" in kernel.does for kernel in kernels) == 53


def test_what_has_no_float_between_takes_no_fp16(
    resnet50: tuple[ir.Model, Ranges, Array],
) -> None:
    with pytest.raises(UsageError, match="u8-asymmetric leaves no float tensor that could be fp16"):
        lower(
            resnet50[0],
            Lowering(
                Precision.INT8, Dialect.U8_ASYMMETRIC, ranges=resnet50[1], float_type=Precision.FP16
            ),
        )


@pytest.mark.parametrize("dialect", [Dialect.U8_ASYMMETRIC, S8])
def test_a_reduced_range_leaves_room_for_two_products_in_16_bits(
    dialect: Dialect, resnet50: tuple[ir.Model, Ranges, Array]
) -> None:
    graph, ranges, exact = resnet50
    reduced, _ = lower(graph, Lowering(Precision.INT8, dialect, ranges=ranges, reduce_range=True))
    largest = 0
    for node in reduced.graph:
        if is_op(node, "Conv", "Gemm"):
            codes = constant(producer(node, 1).inputs[0])
            assert codes is not None
            largest = max(largest, int(np.abs(codes.astype(np.int16)).max()))
    assert largest == 64
    assert 2 * 255 * largest < 2**15
    assert relative_error(run(reduced, IMAGES), exact) < RELATIVE_ERROR


def test_it_is_where_nvidias_modelopt_puts_it(lowered: tuple[ir.Model, Precision]) -> None:
    """But for the classifier, which it leaves in float, and what pools read (decisions/0035)."""
    model, _ = lowered
    mine = {
        (str(node.name), index)
        for node in model.graph
        for index, value in enumerate(node.inputs)
        if value is not None
        and not is_op(node, "QuantizeLinear", "DequantizeLinear")
        and is_op(value.producer(), "DequantizeLinear")
    }
    recorded = json.loads(MODELOPT.read_text(encoding="utf-8"))["placements"]["resnet50"]
    theirs = {
        (node, int(index))
        for inputs, nodes in recorded.items()
        for index in inputs.split(",")
        for node in nodes
    }
    assert len(theirs) == 53 * 2 + 16 + 2
    assert mine - theirs == {("fc", 0), ("fc", 1)}
    assert theirs - mine == {("maxpool", 0), ("avgpool", 0)}
