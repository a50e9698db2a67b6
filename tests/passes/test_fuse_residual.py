"""Sum and activation go inside the convolution, of the right branch, and only where they may."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from exporter.graph.files import serialize
from exporter.passes.fuse_residual import fuse_residual
from tests.graphs import Array, graph, operators, random, relative_error, run

TOLERANCE = 1e-6
IDENTITY = """identity (float[N,4,6,6] x) => (float[N,4,6,6] y) {
    i = Relu (x)
    c = Conv <pads=[1,1,1,1]> (i, w, b)
    r = Relu (c)
    d = Conv <pads=[1,1,1,1]> (r, v, e)
    s = Add (d, i)
    y = Relu (s)
}"""
PROJECTION = """projection (float[N,4,6,6] x) => (float[N,4,3,3] y) {
    c = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w, b)
    r = Relu (c)
    d = Conv <pads=[1,1,1,1]> (r, v, e)
    p = Conv <strides=[2,2]> (x, u, f)
    s = Add (d, p)
    y = Relu (s)
}"""


def weights(*, projection: bool = False) -> dict[str, Array]:
    arrays = {
        "w": random(4, 4, 3, 3),
        "b": random(4, seed=1),
        "v": random(4, 4, 3, 3, seed=2),
        "e": random(4, seed=3),
    }
    if projection:
        arrays |= {"u": random(4, 4, 1, 1, seed=4), "f": random(4, seed=5)}
    return arrays


def check_fused(model: ir.Model, *, fired: int, with_sum: int) -> dict[str, ir.Node]:
    """Counts, numbers, checker, second run; returns the fused convolutions by name."""
    x = random(2, 4, 6, 6, seed=9)
    before = run(model, x)
    report = fuse_residual(model)
    assert (report.fired, report.counts) == (fired, {"with a residual sum": with_sum})
    common.CheckerPass(full_check=True)(model)
    assert relative_error(run(model, x), before) < TOLERANCE
    content = serialize(model)
    assert fuse_residual(model).fired == 0
    assert serialize(model) == content
    return {str(node.name): node for node in model.graph if node.op_type == "FusedConv"}


def check_sum_refused(model: ir.Model, reason: str, *, fired: int = 1) -> None:
    """The sum stays, with a reason; the block's first convolution and its Relu still fuse."""
    x = random(2, 4, 6, 6, seed=9)
    before = run(model, x)
    report = fuse_residual(model)
    assert (report.fired, report.counts["with a residual sum"]) == (fired, 0)
    assert "Add" in operators(model)
    assert any(name == "s" and reason in why for name, why in report.refused)
    assert relative_error(run(model, x), before) < TOLERANCE


@pytest.mark.parametrize("addends", ["(d, i)", "(i, d)"])
def test_an_identity_shortcut_becomes_z(addends: str) -> None:
    model = graph(IDENTITY.replace("(d, i)", addends), **weights())
    fused = check_fused(model, fired=2, with_sum=1)
    assert operators(model) == ["Relu", "FusedConv", "FusedConv"]
    assert [value.name for value in fused["d"].inputs if value] == ["r", "v", "e", "i"]
    assert fused["d"].outputs[0].name == "y"
    assert fused["d"].attributes.get_string("activation") == "Relu"
    assert model.opset_imports["com.microsoft"] == 1


@pytest.mark.parametrize("addends", ["(d, p)", "(p, d)"])
def test_with_a_projection_the_main_branch_takes_the_sum(addends: str) -> None:
    """Z is the projection's output; its convolution stays a plain one and runs first."""
    model = graph(PROJECTION.replace("(d, p)", addends), **weights(projection=True))
    fused = check_fused(model, fired=2, with_sum=1)
    assert set(fused) == {"c", "d"}
    assert fused["d"].inputs[3] is not None
    assert fused["d"].inputs[3].name == "p"
    assert operators(model) == ["FusedConv", "Conv", "FusedConv"]


def test_a_convolution_without_bias_leaves_its_place_empty() -> None:
    model = graph(IDENTITY.replace("(r, v, e)", "(r, v)"), **weights())
    fused = check_fused(model, fired=2, with_sum=1)
    assert fused["d"].inputs[2] is None


def test_the_shortcut_takes_the_sum_where_the_main_branch_is_read_elsewhere() -> None:
    text = PROJECTION.replace("3,3] y)", "3,3] y, float[N,4,3,3] q)")
    text = text.replace("y = Relu (s)", "y = Relu (s) q = Sigmoid (d)")
    fused = check_fused(graph(text, **weights(projection=True)), fired=2, with_sum=1)
    assert set(fused) == {"c", "p"}


def test_not_where_the_sum_has_another_reader() -> None:
    text = IDENTITY.replace("y = Relu (s)", "t = Relu (s) y = Add (t, s)")
    check_sum_refused(graph(text, **weights()), "s has 2 readers")


def test_not_where_the_sum_is_a_graph_output() -> None:
    text = IDENTITY.replace("6] y)", "6] y, float[N,4,6,6] s)")
    check_sum_refused(graph(text, **weights()), "s is a graph output")


def test_not_where_the_convolution_has_another_reader() -> None:
    text = IDENTITY.replace("y = Relu (s)", "t = Relu (s) y = Mul (t, d)")
    check_sum_refused(graph(text, **weights()), "d has 2 readers")


def test_not_where_the_convolution_is_a_graph_output() -> None:
    text = IDENTITY.replace("6] y)", "6] y, float[N,4,6,6] d)")
    check_sum_refused(graph(text, **weights()), "d is a graph output")


def test_not_where_the_shapes_broadcast() -> None:
    text = IDENTITY.replace("s = Add (d, i)", "g = GlobalAveragePool (i) s = Add (d, g)")
    check_sum_refused(graph(text, **weights()), "shapes differ")


def test_not_where_the_sum_goes_to_another_activation() -> None:
    text = IDENTITY.replace("y = Relu (s)", "y = Sigmoid (s)")
    check_sum_refused(graph(text, **weights()), "goes to Sigmoid")


def test_not_a_tensor_added_to_itself() -> None:
    text = IDENTITY.replace("s = Add (d, i)", "s = Add (d, d)")
    check_sum_refused(graph(text, **weights()), "one tensor")


def test_not_in_another_type() -> None:
    arrays = {name: array.astype("float64") for name, array in weights().items()}
    model = graph(IDENTITY.replace("float[", "double["), **arrays)
    content = serialize(model)
    report = fuse_residual(model)
    assert report.fired == 0
    assert dict(report.refused) == {"s": "d is not float32", "r": "c is not float32"}
    assert serialize(model) == content


def test_not_a_one_dimensional_convolution() -> None:
    model = graph(
        """one (float[N,4,6] x) => (float[N,4,6] y) {
            c = Conv <pads=[1,1]> (x, w)
            y = Relu (c)
        }""",
        w=random(4, 4, 3),
    )
    report = fuse_residual(model)
    assert (report.fired, report.refused) == (0, (("y", "c is not two-dimensional"),))


def test_not_a_relu_whose_convolution_is_read_elsewhere() -> None:
    text = """two (float[N,4,6,6] x) => (float[N,4,6,6] y) {
        c = Conv <pads=[1,1,1,1]> (x, w)
        r = Relu (c)
        y = Add (r, c)
    }"""
    report = fuse_residual(graph(text, w=weights()["w"]))
    assert report.fired == 0
    assert ("r", "the convolution's output is not its alone: c has 2 readers") in report.refused


def test_nothing_to_fuse_imports_no_domain() -> None:
    model = graph("plain (float[N,4] x) => (float[N,4] y) { y = Relu (x) }")
    assert fuse_residual(model).fired == 0
    assert "com.microsoft" not in model.opset_imports
