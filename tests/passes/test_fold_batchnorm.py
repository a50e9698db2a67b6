"""Folding keeps the numbers, fires where it may and nowhere else."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from exporter.graph.files import serialize
from exporter.passes.fold_batchnorm import fold_batchnorm
from tests.graphs import Array, graph, operators, random, relative_error, run

TOLERANCE = 1e-6  # a few float32 roundings of sums over 27 products
EPSILON = 1e-3
CONV_BN = """conv_bn (float[N,3,6,6] x) => (float[N,4,6,6] y) {
    c = Conv <pads=[1,1,1,1]> (x, w)
    y = BatchNormalization <epsilon: float = 1e-3> (c, gamma, beta, mean, variance)
}"""


def statistics(prefix: str = "", seed: int = 1) -> dict[str, Array]:
    """Of a normalization of 4 channels; variances down to below epsilon, so that it matters."""
    return {
        f"{prefix}gamma": random(4, seed=seed, low=0.5, high=1.5),
        f"{prefix}beta": random(4, seed=seed + 1),
        f"{prefix}mean": random(4, seed=seed + 2),
        f"{prefix}variance": np.array([1e-4, 1e-2, 1.0, 2.0], np.float32),
    }


def check_folded(model: ir.Model, folds: int, shape: tuple[int, ...] = (2, 3, 6, 6)) -> None:
    """It folds so often, the numbers stay, the checker passes, a second run changes nothing."""
    x = random(*shape, seed=9)
    before = run(model, x)
    report = fold_batchnorm(model)
    assert (report.fired, report.refused) == (folds, ())
    assert "BatchNormalization" not in operators(model)
    common.CheckerPass(full_check=True)(model)
    assert relative_error(run(model, x), before) < TOLERANCE
    content = serialize(model)
    assert fold_batchnorm(model).fired == 0
    assert serialize(model) == content


def check_refused(model: ir.Model, reason: str, node: str = "y") -> None:
    """It leaves the graph alone and says why."""
    content = serialize(model)
    report = fold_batchnorm(model)
    assert report.fired == 0
    assert [name for name, _ in report.refused] == [node]
    assert reason in report.refused[0][1]
    assert serialize(model) == content


def values(model: ir.Model, name: str) -> Array:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def test_a_convolution_without_bias() -> None:
    model = graph(CONV_BN, w=random(4, 3, 3, 3), **statistics())
    check_folded(model, folds=1)
    assert set(model.graph.initializers) == {"w", "c.bias"}
    assert model.graph.outputs[0].name == "y"


def test_a_bias_is_not_dropped() -> None:
    text = CONV_BN.replace("(x, w)", "(x, w, b)")
    check_folded(graph(text, w=random(4, 3, 3, 3), b=random(4, seed=5), **statistics()), folds=1)


def test_a_grouped_convolution() -> None:
    text = CONV_BN.replace("x)", "x)", 1).replace("[N,3,6,6]", "[N,8,6,6]")
    text = text.replace("<pads", "<group = 2, pads")
    model = graph(text, w=random(4, 4, 3, 3), **statistics())
    check_folded(model, folds=1, shape=(2, 8, 6, 6))


def test_the_result_is_that_of_float64_rounded_once() -> None:
    w, b, given = random(4, 3, 3, 3), random(4, seed=5), statistics()
    model = graph(CONV_BN.replace("(x, w)", "(x, w, b)"), w=w, b=b, **given)
    fold_batchnorm(model)
    exact = {name: array.astype(np.float64) for name, array in given.items()}
    scale = exact["gamma"] / np.sqrt(exact["variance"] + float(np.float32(EPSILON)))
    weight = w.astype(np.float64) * scale[:, None, None, None]
    bias = exact["beta"] + (b.astype(np.float64) - exact["mean"]) * scale
    np.testing.assert_array_equal(values(model, "w"), weight.astype(np.float32))
    np.testing.assert_array_equal(values(model, "c.bias"), bias.astype(np.float32))


def test_a_variance_of_zero_leaves_epsilon() -> None:
    given = statistics() | {"variance": np.zeros(4, np.float32)}
    check_folded(graph(CONV_BN, w=random(4, 3, 3, 3), **given), folds=1)


def test_the_operators_own_epsilon_where_the_attribute_is_absent() -> None:
    text = CONV_BN.replace("<epsilon: float = 1e-3>", "")
    check_folded(graph(text, w=random(4, 3, 3, 3), **statistics()), folds=1)


def test_convolutions_that_share_weights_get_a_scale_each() -> None:
    """One weight and one bias, two normalizations: folding the first must not scale the second."""
    model = graph(
        """shared (float[N,4,6,6] x) => (float[N,4,6,6] y) {
            c = Conv <pads=[1,1,1,1]> (x, w, b)
            n = BatchNormalization <epsilon: float = 1e-3> (c, agamma, abeta, amean, avariance)
            r = Relu (n)
            d = Conv <pads=[1,1,1,1]> (r, w, b)
            y = BatchNormalization <epsilon: float = 1e-3> (d, bgamma, bbeta, bmean, bvariance)
        }""",
        w=random(4, 4, 3, 3),
        b=random(4, seed=5),
        **statistics("a"),
        **statistics("b", seed=20),
    )
    check_folded(model, folds=2, shape=(2, 4, 6, 6))


def test_weights_shared_with_a_convolution_that_has_no_normalization() -> None:
    model = graph(
        """shared (float[N,4,6,6] x) => (float[N,4,6,6] y) {
            c = Conv <pads=[1,1,1,1]> (x, w, b)
            n = BatchNormalization (c, gamma, beta, mean, variance)
            y = Conv <pads=[1,1,1,1]> (n, w, b)
        }""",
        w=random(4, 4, 3, 3),
        b=random(4, seed=5),
        **statistics(),
    )
    check_folded(model, folds=1, shape=(2, 4, 6, 6))


def test_convolutions_that_share_an_input_keep_their_own_biases() -> None:
    """A block with a projection; naming a bias after the shared input once mixed them up."""
    model = graph(
        """projection (float[N,3,6,6] x) => (float[N,4,6,6] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            n = BatchNormalization (c, agamma, abeta, amean, avariance)
            d = Conv (x, v)
            m = BatchNormalization (d, bgamma, bbeta, bmean, bvariance)
            y = Add (n, m)
        }""",
        w=random(4, 3, 3, 3),
        v=random(4, 3, 1, 1, seed=6),
        **statistics("a"),
        **statistics("b", seed=20),
    )
    check_folded(model, folds=2)


def test_one_normalization_after_another() -> None:
    model = graph(
        """chain (float[N,3,6,6] x) => (float[N,4,6,6] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            n = BatchNormalization (c, agamma, abeta, amean, avariance)
            y = BatchNormalization (n, bgamma, bbeta, bmean, bvariance)
        }""",
        w=random(4, 3, 3, 3),
        **statistics("a"),
        **statistics("b", seed=20),
    )
    check_folded(model, folds=2)


def test_not_where_the_convolution_has_another_reader() -> None:
    text = """two (float[N,3,6,6] x) => (float[N,4,6,6] z) {
        c = Conv <pads=[1,1,1,1]> (x, w)
        y = BatchNormalization (c, gamma, beta, mean, variance)
        z = Add (c, y)
    }"""
    check_refused(graph(text, w=random(4, 3, 3, 3), **statistics()), "c has 2 readers")


def test_not_where_the_convolution_is_a_graph_output() -> None:
    text = CONV_BN.replace("(float[N,4,6,6] y)", "(float[N,4,6,6] y, float[N,4,6,6] c)")
    check_refused(graph(text, w=random(4, 3, 3, 3), **statistics()), "c is a graph output")


def test_not_without_a_convolution_before_it() -> None:
    text = """bn (float[N,4,6,6] x) => (float[N,4,6,6] y) {
        r = Relu (x)
        y = BatchNormalization (r, gamma, beta, mean, variance)
    }"""
    check_refused(graph(text, **statistics()), "not a convolution's output")


def test_not_in_training_mode() -> None:
    text = CONV_BN.replace("<epsilon: float = 1e-3>", "<training_mode: int = 1>")
    text = text.replace("y = Batch", "y, m, v = Batch")
    check_refused(graph(text, w=random(4, 3, 3, 3), **statistics()), "training mode")


def test_not_where_the_caller_may_replace_a_weight() -> None:
    text = CONV_BN.replace("6] x)", "6] x, float[4] gamma)")
    model = graph(text, w=random(4, 3, 3, 3), **statistics())
    check_refused(model, "not a constant")


def test_not_where_epsilon_does_not_make_the_variance_positive() -> None:
    given = statistics() | {"variance": np.array([1, 1, 1, -1], np.float32)}
    check_refused(graph(CONV_BN, w=random(4, 3, 3, 3), **given), "not positive")


def test_not_where_the_result_overflows_float32() -> None:
    given = statistics() | {"gamma": np.full(4, 3e38, np.float32)}
    check_refused(graph(CONV_BN, w=random(4, 3, 3, 3), **given), "not finite")


@pytest.mark.parametrize("dtype", ["float16", "double"])
def test_not_in_another_type(dtype: str) -> None:
    text = CONV_BN.replace("float[", f"{dtype}[")
    kind = np.float16 if dtype == "float16" else np.float64
    arrays = {"w": random(4, 3, 3, 3), **statistics()}
    model = graph(text, **{name: array.astype(kind) for name, array in arrays.items()})
    check_refused(model, "not float32")
