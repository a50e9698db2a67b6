"""What is no part of the network goes; what changes a number stays."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.graph.files import serialize
from exporter.passes.remove_export_noise import remove_export_noise
from tests.graphs import graph, operators, random, relative_error, run

ZEROS = """zeros (float[N,3,6,6] x) => (float[N,4,6,6] y) {
    size = Shape <start=0, end=1> (w)
    one = Constant <value_ints=[1]> ()
    long = Expand (size, one)
    zero = Constant <value = float {0}> ()
    like = CastLike (zero, x)
    bias = Expand (like, size)
    y = Conv <pads=[1,1,1,1]> (x, w, bias)
}"""


def check(model: ir.Model, expected: list[str], *, shape: tuple[int, ...] = (2, 3, 6, 6)) -> None:
    """The operators that stay; the numbers; the checker; a second run."""
    x = random(*shape, seed=9)
    before = run(model, x)
    count = len(model.graph)
    report = remove_export_noise(model)
    assert operators(model) == expected
    assert report.fired == count - len(expected)
    common.CheckerPass(full_check=True)(model)
    assert relative_error(run(model, x), before) < 1e-6
    content = serialize(model)
    assert remove_export_noise(model).fired == 0
    assert serialize(model) == content


def test_the_zero_bias_that_pytorch_computes_goes() -> None:
    model = graph(ZEROS, w=random(4, 3, 3, 3))
    check(model, ["Conv"])
    assert len(model.graph[0].inputs) == 2
    assert set(model.graph.initializers) == {"w"}


def test_a_bias_of_zeros_that_was_given_stays() -> None:
    text = (
        """given (float[N,3,6,6] x) => (float[N,4,6,6] y) { y = Conv <pads=[1,1,1,1]> (x, w, b) }"""
    )
    model = graph(text, w=random(4, 3, 3, 3), b=np.zeros(4, np.float32))
    check(model, ["Conv"])
    assert set(model.graph.initializers) == {"w", "b"}


def test_a_computed_bias_that_is_not_zero_stays() -> None:
    model = graph(ZEROS.replace("float {0}", "float {0.5}"), w=random(4, 3, 3, 3))
    check(model, ["Conv"])
    assert len(model.graph[0].inputs) == 3


def test_steps_that_do_nothing_go() -> None:
    model = graph(
        """idle (float[N,3,6,6] x) => (float[N,3,6,6] y) {
            i = Identity (x)
            r = Relu (i)
            d = Dropout (r)
            c = Cast <to=1> (d)
            y = Identity (c)
        }"""
    )
    check(model, ["Relu"])
    assert model.graph.outputs[0].name == "y"


def test_a_dropout_whose_mask_is_declared_goes() -> None:
    model = graph(
        """masked (float[N,3,6,6] x) => (float[N,3,6,6] y) {
            r = Relu (x)
            d, mask = Dropout (r, ratio)
            y = Sigmoid (d)
        }""",
        ratio=np.array(0.5, np.float32),
    )
    check(model, ["Relu", "Sigmoid"])


def test_a_reshape_gets_its_target_as_a_constant() -> None:
    model = graph(
        """rows (float[N,3,6,6] x) => (float[N,108] y) {
            s = Shape <start=0, end=1> (x)
            t = Concat <axis=0> (s, rest)
            y = Reshape (x, t)
        }""",
        rest=np.array([108], np.int64),
    )
    check(model, ["Reshape"])
    target = model.graph[0].inputs[1]
    assert target is not None
    assert target.const_value is not None
    assert target.const_value.numpy().tolist() == [-1, 108]


def test_arithmetic_on_weights_is_done_now() -> None:
    """A weight that is standardized in the graph becomes the convolution's own constant."""
    model = graph(
        """standardized (float[N,3,6,6] x) => (float[N,4,6,6] y) {
            mean = ReduceMean <keepdims=1> (w, axes)
            centred = Sub (w, mean)
            y = Conv <pads=[1,1,1,1]> (x, centred)
        }""",
        w=random(4, 3, 3, 3),
        axes=np.array([1, 2, 3], np.int64),
    )
    check(model, ["Conv"])


def test_arithmetic_on_the_input_stays() -> None:
    model = graph(
        """scaled (float[N,3,6,6] x) => (float[N,3,6,6] y) {
            s = Mul (x, scale)
            y = Add (s, scale)
        }""",
        scale=np.array([2.0], np.float32),
    )
    check(model, ["Mul", "Add"])


EXPANDED = """expanded (float[N,3,6,6] x) => (float[N,3,6,6] y) {
    pool = GlobalAveragePool (x)
    size = Shape (x)
    gate = Expand (pool, size)
    y = Mul (OPERANDS)
}"""


def test_an_expand_to_what_it_is_multiplied_by_goes() -> None:
    model = graph(EXPANDED.replace("OPERANDS", "x, gate"))
    check(common.ShapeInferencePass()(model).model, ["GlobalAveragePool", "Mul"])


def test_an_expand_that_alone_gives_the_shape_stays() -> None:
    model = graph(EXPANDED.replace("OPERANDS", "gate, pool"))
    inferred = common.ShapeInferencePass()(model).model
    check(inferred, ["GlobalAveragePool", "Shape", "Expand", "Mul"])


def test_an_identity_between_input_and_output_stays() -> None:
    """Without it the graph would return its own input, which ONNX does not allow."""
    check(graph("id (float[N,3,6,6] x) => (float[N,3,6,6] y) { y = Identity (x) }"), ["Identity"])
