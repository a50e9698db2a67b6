"""Every way to write the classifier head becomes GlobalAveragePool, Flatten, Gemm."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from exporter.graph.files import serialize
from exporter.passes.canonicalize_head import canonicalize_head
from tests.graphs import Array, graph, graph_of_opset, operators, random, relative_error, run

HEAD = ["GlobalAveragePool", "Flatten", "Gemm"]
GEMM = "y = Gemm <transB=1> (f, w, b)"
MEAN = "ReduceMean <keepdims={keep}> (x, axes)"


def weights(**more: object) -> dict[str, Array]:
    arrays: dict[str, Array] = {"w": random(5, 8), "b": random(5, seed=1)}
    return arrays | {name: np.asarray(value) for name, value in more.items()}


def check(model: ir.Model, expected: list[str], *, fired: int) -> None:
    """The operators afterwards; the numbers; the checker; a second run."""
    x = random(3, 8, 4, 4, seed=9)
    before = run(model, x)
    assert canonicalize_head(model).fired == fired
    assert operators(model) == expected
    common.CheckerPass(full_check=True)(model)
    assert relative_error(run(model, x), before) < 1e-6
    content = serialize(model)
    assert canonicalize_head(model).fired == 0
    assert serialize(model) == content


def head(body: str) -> str:
    return "head (float[N,8,4,4] x) => (float[N,5] y) { " + body + " }"


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, -2]])
def test_the_mean_over_the_image(axes: list[int]) -> None:
    body = f"m = {MEAN.format(keep=1)} f = Flatten (m) {GEMM}"
    check(graph(head(body), **weights(axes=axes)), HEAD, fired=1)


def test_the_mean_without_kept_dimensions() -> None:
    body = f"f = {MEAN.format(keep=0)} {GEMM}"
    check(graph(head(body), **weights(axes=[2, 3])), HEAD, fired=1)


def test_the_mean_before_opset_18_has_its_axes_in_an_attribute() -> None:
    body = f"m = ReduceMean <axes=[2,3], keepdims=1> (x) f = Flatten (m) {GEMM}"
    check(graph_of_opset(17, head(body), **weights()), HEAD, fired=1)


def test_an_average_pool_over_the_whole_image() -> None:
    body = f"m = AveragePool <kernel_shape=[4,4]> (x) f = Flatten (m) {GEMM}"
    check(graph(head(body), **weights()), HEAD, fired=1)


@pytest.mark.parametrize(
    "step",
    [
        "f = Reshape (m, rows)",
        "f = Squeeze (m, last)",
        "n = Reshape (m, nhwc) f = Reshape (n, rows)",
        "n = Transpose <perm=[0,2,3,1]> (m) f = Reshape (n, rows)",
    ],
)
def test_every_way_from_a_pixel_to_a_row(step: str) -> None:
    body = f"m = GlobalAveragePool (x) {step} {GEMM}"
    arrays = weights(rows=[-1, 8], last=[2, 3], nhwc=[-1, 1, 1, 8])
    check(graph(head(body), **arrays), HEAD, fired=1)


@pytest.mark.parametrize("bias", ["(p, b)", "(b, p)"])
def test_a_product_and_a_sum(bias: str) -> None:
    body = f"m = GlobalAveragePool (x) f = Flatten (m) p = MatMul (f, v) y = Add {bias}"
    model = graph(head(body), **weights(v=random(8, 5)))
    check(model, HEAD, fired=1)
    assert model.graph[2].attributes.get_int("transB") == 1


def test_a_gemm_the_other_way_round() -> None:
    body = "m = GlobalAveragePool (x) f = Flatten (m) y = Gemm <alpha=0.5> (f, v, b)"
    check(graph(head(body), **weights(v=random(8, 5))), HEAD, fired=1)


def test_a_weight_that_is_read_elsewhere_is_not_turned_for_both() -> None:
    body = """m = GlobalAveragePool (x) f = Flatten (m) g = Gemm (f, v) y = Gemm (g, v)"""
    text = head(body).replace("[N,5] y", "[N,8] y")
    check(graph(text, v=random(8, 8)), [*HEAD, "Gemm"], fired=2)


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceMean <keepdims=1> (x, axes) f = Flatten (m) y = Gemm <transB=1> (f, u, b)",
        "m = AveragePool <kernel_shape=[3,3]> (x) f = Flatten (m) y = Gemm <transB=1> (f, u, b)",
        "m = AveragePool <kernel_shape=[4,4], pads=[1,1,1,1], strides=[2,2]> (x) f = Flatten (m)"
        " y = Gemm <transB=1> (f, u, b)",
    ],
    ids=["another axis", "a part of the image", "padded"],
)
def test_not_another_pool(body: str) -> None:
    model = graph(head(body), b=random(5), u=random(5, 32), axes=np.array([2], np.int64))
    check(model, operators(model), fired=0)


def test_not_a_product_that_is_read_before_the_bias() -> None:
    body = """m = GlobalAveragePool (x) f = Flatten (m) p = MatMul (f, v) q = Add (p, b)
              y = Mul (p, q)"""
    model = graph(head(body), **weights(v=random(8, 5)))
    check(model, operators(model), fired=0)


def test_not_a_product_of_two_computed_tensors() -> None:
    body = """m = GlobalAveragePool (x) f = Flatten (m) s = Softmax (v) t = MatMul (f, v)
              u = Sigmoid (t) y = Add (t, u)"""
    model = graph(head(body), **weights(v=random(8, 5)))
    check(model, [op for op in operators(model) if op != "Softmax"], fired=0)


def test_not_a_reshape_that_moves_the_batch() -> None:
    body = "m = Reshape (x, target) f = ReduceMax <keepdims=0> (m, axes) y = Gemm <transB=1> (f, w)"
    text = head(body).replace("[N,5] y", "[M,5] y")
    arrays = {"w": random(5, 8), "target": np.array([-1, 8, 2, 2]), "axes": np.array([2, 3])}
    model = graph(text, **arrays)
    check(model, operators(model), fired=0)


@pytest.mark.parametrize(
    ("split", "perm"),
    [([0, 2, 4], [0, 2, 1]), ([0, 4, 2, 1], [0, 2, 1, 3]), ([-1, 2, 4, 1, 1], [0, 2, 1, 3, 4])],
)
def test_not_a_channel_shuffle(split: list[int], perm: list[int]) -> None:
    body = f"""m = GlobalAveragePool (x) s = Reshape (m, split) t = Transpose <perm={perm}> (s)
               f = Reshape (t, rows) {GEMM}"""
    model = graph(head(body), **weights(split=split, rows=[-1, 8]))
    check(model, operators(model), fired=0)


def test_not_a_transpose_that_moves_the_batch() -> None:
    body = f"""m = GlobalAveragePool (x) t = Transpose <perm=[1,0,2,3]> (m)
               f = Reshape (t, rows) {GEMM}"""
    model = graph(head(body), **weights(rows=[-1, 8]))
    check(model, operators(model), fired=0)


def test_a_transpose_without_a_permutation_reverses_the_axes() -> None:
    body = f"m = GlobalAveragePool (x) t = Transpose (m) f = Reshape (t, rows) {GEMM}"
    model = graph(head(body), **weights(rows=[-1, 8]))
    check(model, operators(model), fired=0)


def test_not_a_mean_of_integers() -> None:
    body = "i = Cast <to=6> (x) m = ReduceMean <keepdims=0> (i, axes) y = Cast <to=1> (m)"
    model = graph(head(body).replace("[N,5] y", "[N,8] y"), axes=np.array([2, 3]))
    operators_before = operators(model)
    assert canonicalize_head(model).fired == 0
    assert operators(model) == operators_before


@pytest.mark.parametrize("shape", [(5, 1), (1, 1, 5)], ids=["a column", "of another rank"])
def test_not_a_bias_that_is_no_row(shape: tuple[int, ...]) -> None:
    body = """m = GlobalAveragePool (x) f = Flatten (m) p = MatMul (f, v) q = Add (p, b)
              y = Reshape (q, all)"""
    text = "head (float[5,8,4,4] x) => (float[K] y) { " + body + " }"
    model = graph(text, v=random(8, 5), b=random(*shape), all=np.array([-1]))
    x = random(5, 8, 4, 4)
    before = run(model, x)
    assert canonicalize_head(model).fired == 0
    assert relative_error(run(model, x), before) == 0


def test_a_bias_in_a_row_of_its_own() -> None:
    body = "m = GlobalAveragePool (x) f = Flatten (m) p = MatMul (f, v) y = Add (p, b)"
    check(graph(head(body), v=random(8, 5), b=random(1, 5)), HEAD, fired=1)


def test_names_follow_the_operators() -> None:
    body = f"m = {MEAN.format(keep=1)} f = Reshape (m, rows) {GEMM}"
    model = graph(head(body), **weights(axes=[2, 3], rows=[-1, 8]))
    for node, name in zip(model.graph, ("avgpool", "reshape", "fc"), strict=True):
        node.name = name
    canonicalize_head(model)
    assert [node.name for node in model.graph] == ["avgpool", "flatten", "fc"]
