"""FP16 or BF16 inside, float32 at the borders; what is lost is counted, what is asked for stays."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport, Precision
from exporter.graph.files import serialize
from exporter.passes.convert_floats import convert_floats
from exporter.passes.widen_bf16 import widen_bf16
from tests.graphs import (
    Array,
    graph,
    graph_of_opset,
    operators,
    random,
    relative_error,
    run,
)

HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT
OVERFLOWED, FLUSHED = "weights overflowed to infinity", "weights flushed to zero"
TWO_CONVS = """two (float[N,3,6,6] x) => (float[N,4,6,6] y) {
    c = Conv <pads=[1,1,1,1]> (x, w, b)
    r = Relu (c)
    y = Conv <pads=[1,1,1,1]> (r, v)
}"""


def convert_fp16(model: ir.Model, keep: tuple[str, ...] = ()) -> PassReport:
    return convert_floats(model, Precision.FP16, keep)


def weights() -> dict[str, Array]:
    return {"w": random(4, 3, 3, 3), "b": random(4, seed=1), "v": random(4, 4, 3, 3, seed=2)}


def types(model: ir.Model) -> dict[str | None, ir.DataType | None]:
    """Of every result and weight."""
    results = {o.name: o.dtype for node in model.graph for o in node.outputs}
    return results | {name: value.dtype for name, value in model.graph.initializers.items()}


def check_second_run(model: ir.Model, keep: tuple[str, ...] = ()) -> None:
    common.CheckerPass(full_check=True)(model)
    content = serialize(model)
    assert convert_fp16(model, keep).fired == 0
    assert serialize(model) == content


def test_everything_inside_is_fp16_and_the_borders_are_float32() -> None:
    model = graph(TWO_CONVS, **weights())
    x = random(2, 3, 6, 6, seed=9)
    before = run(model, x)
    report = convert_fp16(model)
    assert (report.fired, report.refused) == (3, ())
    assert report.counts == {OVERFLOWED: 0, FLUSHED: 0}
    assert operators(model) == ["Cast", "Conv", "Relu", "Conv", "Cast"]
    inside = types(model)
    assert inside.pop("y") is FLOAT
    assert set(inside.values()) == {HALF}
    assert (model.graph.inputs[0].name, model.graph.inputs[0].dtype) == ("x", FLOAT)
    assert (model.graph.outputs[0].name, model.graph.outputs[0].dtype) == ("y", FLOAT)
    # Half precision has 11 bits: 2^-11 a rounding, a few roundings in a row.
    assert 1e-5 < relative_error(run(model, x), before) < 4 * 2**-11
    check_second_run(model)


def test_the_given_weights_are_rounded_to_nearest() -> None:
    given = weights()
    model = graph(TWO_CONVS, **given)
    convert_fp16(model)
    for name, array in given.items():
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), array.astype(np.float16))


def test_a_clone_is_not_touched() -> None:
    model = graph(TWO_CONVS, **weights())
    content = serialize(model)
    convert_fp16(model.clone())
    assert serialize(model) == content


def test_what_overflows_and_what_vanishes_is_counted() -> None:
    given = weights()
    # The last finite one, one that rounds to it, two beyond, and one that was infinite before.
    given["w"].flat[:5] = [65504.0, 65510.0, 65520.0, -1e6, np.inf]
    given["v"].flat[:5] = [0.0, 1e-8, -1e-30, 2.0**-24, 2.0**-25]  # 2^-25 ties to zero
    model = graph(TWO_CONVS, **given)
    report = convert_fp16(model)
    assert report.counts == {OVERFLOWED: 2, FLUSHED: 3}
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    rounded = np.array([65504, 65504, np.inf, -np.inf, np.inf], np.float16)
    np.testing.assert_array_equal(tensor.numpy().flat[:5], rounded)


def test_a_node_can_stay_in_float32() -> None:
    model = graph(TWO_CONVS, **weights())
    x = random(2, 3, 6, 6, seed=9)
    before = run(model, x)
    report = convert_fp16(model, keep=("c",))
    assert report.fired == 2
    assert report.refused == (("c", "kept in float32 as asked"),)
    kept = types(model)
    assert (kept["c"], kept["w"], kept["b"]) == (FLOAT, FLOAT, FLOAT)
    assert (kept["r"], kept["v"]) == (HALF, HALF)
    assert operators(model) == ["Conv", "Cast", "Relu", "Conv", "Cast"]
    assert relative_error(run(model, x), before) < 4 * 2**-11
    check_second_run(model, keep=("c",))


def test_a_module_can_stay_in_float32() -> None:
    model = graph(TWO_CONVS, **weights())
    for node in model.graph:
        node.name = "head.fc" if node.name == "y" else f"body.{node.name}"
    report = convert_fp16(model, keep=("body",))
    assert [name for name, _ in report.refused] == ["body.c", "body.r"]
    assert report.fired == 1


def test_keeping_everything_changes_nothing() -> None:
    model = graph(TWO_CONVS, **weights())
    content = serialize(model)
    assert convert_fp16(model, keep=("c", "r", "y")).fired == 0
    assert serialize(model) == content


def test_a_weight_read_in_both_precisions_exists_twice() -> None:
    text = TWO_CONVS.replace("[N,3,", "[N,4,")
    model = graph(text.replace("(r, v)", "(r, w)"), w=random(4, 4, 3, 3), b=random(4, seed=1))
    x = random(2, 4, 6, 6, seed=9)
    before = run(model, x)
    convert_fp16(model, keep=("c",))
    assert types(model)["w"] is FLOAT
    assert types(model)["w.fp16"] is HALF
    assert relative_error(run(model, x), before) < 4 * 2**-11
    check_second_run(model, keep=("c",))


def test_an_operand_that_must_be_float32_stays() -> None:
    """The scales of a Resize are float32 by definition, its image is not."""
    model = graph(
        """up (float[N,3,4,4] x) => (float[N,3,8,8] y) {
            s = Resize <mode="linear"> (x, , scales)
            y = Relu (s)
        }""",
        scales=np.array([1, 1, 2, 2], np.float32),
    )
    assert convert_fp16(model).fired == 2
    assert types(model)["scales"] is FLOAT
    assert types(model)["s"] is HALF
    check_second_run(model)


def test_an_operator_without_fp16_stays() -> None:
    """DynamicQuantizeLinear is defined for float32 alone."""
    model = graph(
        """dynamic (float[N,3,4,4] x) => (float[N,3,4,4] y) {
            r = Relu (x)
            q, s, z = DynamicQuantizeLinear (r)
            y = DequantizeLinear (q, s, z)
        }"""
    )
    x = random(2, 3, 4, 4)
    before = run(model, x)
    report = convert_fp16(model)
    assert report.refused == (("q", "DynamicQuantizeLinear has no FP16 form"),)
    assert operators(model).count("Cast") == 4  # x, r to float32, s to FP16, y
    assert types(model)["s"] is FLOAT
    assert relative_error(run(model, x), before) < 4 * 2**-11
    check_second_run(model)


def test_a_uint8_input_is_cast_once() -> None:
    model = graph(
        """pixels (uint8[N,3,6,6] x) => (float[N,4,6,6] y) {
            f = Cast <to = 1> (x)
            y = Conv <pads=[1,1,1,1]> (f, w)
        }""",
        w=random(4, 3, 3, 3),
    )
    x = np.random.RandomState(0).randint(0, 255, (2, 3, 6, 6)).astype(np.uint8)
    before = run(model, x)
    convert_fp16(model)
    assert model.graph.inputs[0].dtype is ir.DataType.UINT8
    assert relative_error(run(model, x), before) < 4 * 2**-11
    check_second_run(model)


def test_shape_arithmetic_is_not_touched() -> None:
    model = graph(
        """rows (float[N,3,6,6] x) => (float[N,108] y) {
            s = Shape <start=0, end=1> (x)
            t = Concat <axis=0> (s, rest)
            y = Reshape (x, t)
        }""",
        rest=np.array([108], np.int64),
    )
    x = random(2, 3, 6, 6)
    convert_fp16(model)
    assert types(model)["t"] is ir.DataType.INT64
    assert run(model, x).shape == (2, 108)
    check_second_run(model)


def test_two_readers_share_one_cast() -> None:
    text = """two (float[N,3,6,6] x) => (float[N,3,6,6] y) {
        a = Relu (x)
        b = Sigmoid (x)
        y = Add (a, b)
    }"""
    model = graph(text)
    convert_fp16(model)
    assert operators(model) == ["Cast", "Relu", "Sigmoid", "Add", "Cast"]


def test_what_gives_the_type_that_it_reads_stays() -> None:
    """RandomUniformLike names no type here, so it would turn into FP16 unasked."""
    model = graph("""noise (float[N,3] x) => (float[N,3] y) {
        n = RandomUniformLike (x)
        z = Mul (n, x)
        y = Relu (z)
    }""")
    report = convert_fp16(model)
    assert report.refused == (
        ("n", "RandomUniformLike gives the type that it reads, and names none"),
    )
    common.CheckerPass(full_check=True)(model)


def test_an_output_that_has_the_name_of_a_cast_keeps_it() -> None:
    model = graph("cast (float[N,3] x) => (float[N,3] x_fp16) { x_fp16 = Relu (x) }")
    model.graph.outputs[0].name = "x.fp16"
    convert_fp16(model)
    common.CheckerPass(full_check=True)(model)
    assert model.graph.outputs[0].name == "x.fp16"


def test_bf16_raises_the_opset_to_that_which_defines_it() -> None:
    given = weights()
    model = graph(TWO_CONVS, **given)
    x = random(2, 3, 6, 6, seed=9)
    before = run(model, x)
    report = convert_floats(model, Precision.BF16)
    assert (report.name, report.fired, report.refused) == ("convert_bf16", 3, ())
    assert model.opset_imports[""] == 22
    common.CheckerPass(full_check=True)(model)
    inside = types(model)
    assert inside.pop("y") is FLOAT
    assert set(inside.values()) == {ir.DataType.BFLOAT16}
    for name, array in given.items():
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), array.astype(ml_dtypes.bfloat16))
    widen_bf16(model)
    # BF16 has 8 bits: 2^-8 a rounding, a few roundings in a row.
    assert 1e-4 < relative_error(run(model, x), before) < 4 * 2**-8


def test_bf16_loses_nothing_to_its_range() -> None:
    given = weights()
    given["w"].flat[:3] = [1e30, -1e6, 1e-30]
    assert convert_floats(graph(TWO_CONVS, **given), Precision.BF16).counts == {
        OVERFLOWED: 0,
        FLUSHED: 0,
    }


def test_a_newer_opset_than_bf16_needs_stays() -> None:
    model = graph_of_opset(23, "relu (float[N,3] x) => (float[N,3] y) { y = Relu (x) }")
    assert convert_floats(model, Precision.BF16).fired == 1
    assert model.opset_imports[""] == 23


def test_only_the_chosen_nodes_turn_and_their_pairs_stay() -> None:
    given = weights() | {
        "scale": np.array(0.02, np.float32),
        "zero": np.array(128, np.uint8),
    }
    model = graph(
        """pairs (float[N,3,6,6] x) => (float[N,4,6,6] y) {
            q = QuantizeLinear (x, scale, zero)
            d = DequantizeLinear (q, scale, zero)
            c = Conv <pads=[1,1,1,1]> (d, w, b)
            r = Relu (c)
            s = QuantizeLinear (r, scale, zero)
            e = DequantizeLinear (s, scale, zero)
            y = Conv <pads=[1,1,1,1]> (e, v)
        }""",
        **given,
    )
    names = ("in.q", "in.dq", "block.conv", "block.relu", "block.q", "block.dq", "fc")
    for node, name in zip(model.graph, names, strict=True):
        node.name = name
    x = random(2, 3, 6, 6, seed=9)
    before = run(model, x)
    report = convert_floats(model, Precision.BF16, only=("block",))
    assert (report.fired, report.refused) == (2, ())
    common.CheckerPass(full_check=True)(model)
    assert operators(model) == [
        "QuantizeLinear",
        "DequantizeLinear",
        "Cast",
        "Conv",
        "Relu",
        "Cast",
        "QuantizeLinear",
        "DequantizeLinear",
        "Conv",
    ]
    narrow = {name for name, kind in types(model).items() if kind is ir.DataType.BFLOAT16}
    assert narrow == {"d.bf16", "w", "b", "c", "r"}
    widen_bf16(model)
    assert 1e-5 < relative_error(run(model, x), before) < 4 * 2**-8


def test_what_is_to_be_kept_of_the_chosen_nodes_stays() -> None:
    model = graph(TWO_CONVS, **weights())
    for node, name in zip(model.graph, ("a.conv", "a.relu", "b.conv"), strict=True):
        node.name = name
    report = convert_floats(model, Precision.BF16, keep=("a.conv",), only=("a",))
    assert report.fired == 1
    assert report.refused == (("a.conv", "kept in float32 as asked"),)
    common.CheckerPass(full_check=True)(model)
