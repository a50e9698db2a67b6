"""QLinear operators as Q/DQ: the same codes, by ONNX Runtime's own kernels for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.errors import InputError
from exporter.passes.qlinear_to_qdq import MICROSOFT, QLINEAR, qlinear_to_qdq
from tests.graphs import Array, operators, run

U8, S8 = np.uint8, np.int8
EXACT = 2.0**-4
"""A scale with which float32 sums as exactly as integers do."""


@dataclass(frozen=True)
class Case:
    """One operator on codes that a QuantizeLinear makes of the input."""

    op: str
    shape: tuple[int, ...] = (2, 6, 7, 7)
    domain: str = MICROSOFT
    x: tuple[float, int] = (EXACT, 128)
    y: tuple[float, int] = (EXACT * 8, 100)
    kind: type[np.integer] = U8
    others: tuple[Array | None, ...] = ()
    """What stands between the first tensor and the result's scale."""
    behind: tuple[Array, ...] = ()
    """What stands behind the result's zero point: a convolution's bias."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    float_result: bool = False


def model_of(case: Case) -> ir.Model:
    """QuantizeLinear, the operator, DequantizeLinear."""
    constants: dict[str, Array] = {}

    def add(array: Array | None) -> str:
        if array is None:
            return ""
        constants[f"c{len(constants)}"] = array
        return f"c{len(constants) - 1}"

    def parameters(pair: tuple[float, int]) -> list[str]:
        return [add(np.array(pair[0], np.float32)), add(np.array(pair[1], case.kind))]

    x, y = parameters(case.x), parameters(case.y)
    others = [add(one) for one in case.others]
    inputs = ["q", *x, *others]
    if case.op == "QLinearConcat":
        inputs = [*y, "q", *x, "q", *x]
    elif not case.float_result:
        inputs += [*y, *(add(one) for one in case.behind)]
    result = "y" if case.float_result else "z"
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *x], ["q"]),
        helper.make_node(
            case.op, inputs, [result], name="layer", domain=case.domain, **case.attributes
        ),
    ]
    if not case.float_result:
        nodes.append(helper.make_node("DequantizeLinear", ["z", *y], ["y"]))
    rank = 2 if case.op in {"QGemm", "QLinearMatMul"} else 4
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, case.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def codes(seed: int, *shape: int, kind: type = S8, most: int = 60) -> Array:
    """Random codes so small that no CPU saturates on the way."""
    low = 0 if kind is U8 else -most
    return np.random.RandomState(seed).randint(low, most + 1, shape).astype(kind)


def scalar(value: float, kind: type = np.float32) -> Array:
    return np.array(value, kind)


def weights(
    *shape: int, scale: Array | None = None, kind: type = S8, zero: int = 0
) -> tuple[Array, Array, Array]:
    """A weight's codes, scale and zero point."""
    scales = scalar(EXACT) if scale is None else scale
    return codes(1, *shape, kind=kind), scales, np.full(scales.shape, zero, kind)


A_CHANNEL = np.exp2(-np.arange(4, 8)).astype(np.float32)
BIAS = np.array([100, -2000, 30, 7], np.int32)
TENSOR = (codes(2, 2, 6, 7, 7, kind=U8), scalar(EXACT / 2), scalar(20, U8))
CONV = Case("QLinearConv", domain="", others=weights(4, 6, 3, 3), behind=(BIAS,))
CASES = {
    "conv": CONV,
    "conv without bias": Case("QLinearConv", domain="", others=weights(4, 6, 3, 3)),
    "conv, a scale a channel": replace(CONV, others=weights(4, 6, 3, 3, scale=A_CHANNEL)),
    "conv, strides and pads": replace(
        CONV, attributes={"strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [2, 2]}
    ),
    "conv, groups": replace(CONV, others=weights(4, 3, 3, 3), attributes={"group": 2}),
    "conv, 1x1 with unsigned weights": replace(CONV, others=weights(4, 6, 1, 1, kind=U8, zero=30)
    ),
    "conv, signed": replace(CONV, kind=S8, x=(EXACT, -3), y=(EXACT * 8, -128)),
    "conv, one-element constants": replace(
        CONV, others=weights(4, 6, 3, 3, scale=scalar(EXACT).reshape(1))
    ),
    "matmul": Case("QLinearMatMul", (3, 6), domain="", others=weights(6, 4)),
    "matmul, a scale a column": Case(
        "QLinearMatMul", (3, 6), domain="", others=weights(6, 4, scale=A_CHANNEL)
    ),
    "gemm": Case(
        "QGemm", (3, 6), others=(*weights(4, 6), BIAS), attributes={"transB": 1, "alpha": 0.5}
    ),
    "gemm, a scale a channel": Case(
        "QGemm", (3, 6), others=(*weights(6, 4, scale=A_CHANNEL), BIAS)
    ),
    "gemm into float": Case(
        "QGemm", (3, 6), others=(*weights(6, 4), BIAS), float_result=True
    ),
    "add": Case("QLinearAdd", others=TENSOR),
    "mul": Case("QLinearMul", others=TENSOR),
    "global average pool": Case("QLinearGlobalAveragePool", attributes={"channels_last": 0}),
    "average pool": Case(
        "QLinearAveragePool", attributes={"kernel_shape": [2, 2], "strides": [2, 2]}
    ),
    "leaky relu": Case("QLinearLeakyRelu", attributes={"alpha": 0.25}),
    "sigmoid": Case("QLinearSigmoid", y=(2.0**-8, 0)),
    "softmax": Case("QLinearSoftmax", y=(2.0**-8, 0), attributes={"axis": 1, "opset": 20}),
    "concat": Case("QLinearConcat", attributes={"axis": 1}),
}  # fmt: skip


def images(case: Case) -> Array:
    return np.random.RandomState(3).uniform(-8, 8, case.shape).astype(np.float32)


def both(case: Case) -> tuple[Array, Array]:
    """The operator's answer and that of its Q/DQ, in steps of the result's codes."""
    model = model_of(case)
    before = run(model, images(case))
    assert qlinear_to_qdq(model).fired == 1
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert not {(node.domain, node.op_type) for node in model.graph} & QLINEAR
    assert [node.op_type for node in model.graph if node.name == "layer"]
    step = case.x[0] * EXACT if case.float_result else case.y[0]
    return before / step, run(model, images(case)) / step


def test_every_operator_has_a_case() -> None:
    assert {(case.domain, case.op) for case in CASES.values()} == QLINEAR


@pytest.mark.parametrize("name", CASES)
def test_the_codes_are_the_same(name: str) -> None:
    """Scales are powers of two, so that both sum exactly; tables and means are not."""
    written, meant = both(CASES[name])
    assert np.ptp(written) > 5
    inexact = {"sigmoid", "softmax", "global average pool", "average pool"}
    assert np.abs(written - meant).max() <= (1 if name in inexact else 0)


@pytest.mark.parametrize("seed", range(12))
def test_with_any_scales_a_convolution_is_at_most_one_code_away(seed: int) -> None:
    random = np.random.RandomState(seed)
    groups = int(random.choice([1, 2, 3]))
    size = int(random.choice([1, 3, 5]))
    per_channel = bool(random.randint(2))
    kind = (U8, S8)[random.randint(2)]
    scale = random.uniform(0.01, 0.1, 6 if per_channel else ()).astype(np.float32)
    zeros = random.randint(-20, 20, 2) + (128 if kind is U8 else 0)
    weight = (codes(seed, 6, 6 // groups, size, size), scale, np.zeros(scale.shape, S8))
    case = Case(
        "QLinearConv",
        domain="",
        kind=kind,
        x=(float(random.uniform(0.02, 0.1)), int(zeros[0])),
        y=(float(random.uniform(0.2, 2.0)), int(zeros[1])),
        others=weight,
        behind=(random.randint(-5000, 5000, 6).astype(np.int32),),
        attributes={
            "group": groups,
            "strides": [int(n) for n in random.randint(1, 3, 2)],
            "pads": [int(n) for n in random.randint(0, size, 4)],
        },
    )
    written, meant = both(case)
    apart = np.abs(np.rint(written - meant))
    assert apart.max() <= 1
    assert apart.mean() < 0.01


def test_what_moves_codes_gets_a_pair_on_both_sides() -> None:
    case = CONV
    model = model_of(case)
    conv = next(node for node in model.graph if node.name == "layer")
    pool = ir.node("MaxPool", [conv.outputs[0]], {"kernel_shape": [2, 2]}, name="pool")
    conv.outputs[0].replace_all_uses_with(pool.outputs[0])
    pool.replace_input_with(0, conv.outputs[0])
    model.graph.insert_after(conv, pool)
    before = run(model, images(case))
    qlinear_to_qdq(model)
    behind = operators(model)[-5:]
    assert behind == [
        "QuantizeLinear", "DequantizeLinear", "MaxPool", "QuantizeLinear", "DequantizeLinear",
    ]  # fmt: skip
    np.testing.assert_array_equal(run(model, images(case)), before)


def test_a_graph_without_such_operators_stays_and_a_second_run_changes_nothing() -> None:
    model = model_of(CASES["add"])
    qlinear_to_qdq(model)
    content = ir.to_proto(model).SerializeToString()
    assert qlinear_to_qdq(model).fired == 0
    assert ir.to_proto(model).SerializeToString() == content


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (Case("QLinearGlobalAveragePool", attributes={"channels_last": 1}), "channels_last=1"),
        (Case("QLinearAdd", others=(TENSOR[0],)), "without its input 6"),
        (Case("QLinearMatMul", (3, 6), domain="", others=(None, None, None)), "its input 3"),
    ],
)
def test_what_has_no_form_is_refused_by_name(case: Case, said: str) -> None:
    with pytest.raises(InputError, match=f"'layer' is {case.op} .*{said}"):
        qlinear_to_qdq(model_of(case))
