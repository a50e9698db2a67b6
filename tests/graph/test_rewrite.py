"""Passes that change numbers: each is named, with the tensor from which on everything differs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from exporter.artifact import PassReport
from exporter.errors import BuildError
from exporter.graph.equality import LIMIT, answer, difference, random_images
from exporter.graph.optimize import PASSES
from exporter.graph.rewrite import prove_equal, rewrite
from exporter.passes.values import is_op
from tests.graphs import graph, random

Change = Callable[[ir.Model], None]


def network() -> ir.Model:
    """A stem, a residual block, and a head that shuffles its channels."""
    return graph(
        """net (float[N,3,8,8] x) => (float[N,5] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            n = BatchNormalization (c, g, h, m, v)
            r = Relu (n)
            d = Conv <pads=[1,1,1,1]> (r, k)
            e = BatchNormalization (d, g, h, m, v)
            s = Add (e, r)
            t = Relu (s)
            p = GlobalAveragePool (t)
            a = Reshape (p, split)
            b = Transpose <perm=[0,2,1]> (a)
            f = Reshape (b, rows)
            y = Gemm <transB=1> (f, q)
        }""",
        w=random(4, 3, 3, 3),
        k=random(4, 4, 3, 3, seed=1),
        **{name: random(4, seed=i, low=0.5) for i, name in enumerate("ghmv")},
        split=np.array([-1, 2, 2]),
        rows=np.array([-1, 4]),
        q=random(5, 4, seed=3),
    )


def node(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def drop(model: ir.Model, name: str) -> None:
    """Takes a node out; its readers read what it read."""
    gone = node(model, name)
    source = gone.inputs[0]
    assert source is not None
    gone.outputs[0].replace_all_uses_with(source)
    model.graph.remove(gone, safe=True)


def scale(model: ir.Model, name: str) -> None:
    """Moves every weight by a ten-thousandth."""
    weight = node(model, name).inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    moved = weight.const_value.numpy() * np.float32(1.0001)
    weight.const_value = ir.tensor(moved, name=weight.name)


def pad_less(model: ir.Model) -> None:
    conv = node(model, "d")
    conv.attributes["pads"] = ir.AttrInt64s("pads", [0, 0, 2, 2])


def forget_epsilon(model: ir.Model) -> None:
    node(model, "n").attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.1)


def read_the_other(model: ir.Model) -> None:
    node(model, "s").replace_input_with(1, node(model, "c").outputs[0])


@pytest.mark.parametrize(
    ("change", "first"),
    [
        pytest.param(lambda model: drop(model, "b"), "f", id="a channel shuffle is dropped"),
        pytest.param(lambda model: drop(model, "r"), "d", id="a Relu is dropped"),
        pytest.param(lambda model: scale(model, "y"), "y", id="a weight is moved"),
        pytest.param(pad_less, "d", id="another padding"),
        pytest.param(forget_epsilon, "n", id="another epsilon"),
        pytest.param(read_the_other, "s", id="another operand"),
    ],
)
@pytest.mark.parametrize("place", range(len(PASSES) - 3))
def test_a_wrong_pass_is_named_wherever_it_stands(change: Change, first: str, place: int) -> None:
    def wrong(model: ir.Model) -> PassReport:
        change(model)
        return PassReport("wrong", 1)

    passes = (*PASSES[:place], wrong, *PASSES[place:])
    model = network()
    rewritten, _ = rewrite(model, passes)
    with pytest.raises(BuildError) as caught:
        prove_equal(model, rewritten, passes, random_images(model))
    message = str(caught.value)
    assert message.startswith("the pass wrong changes the numbers of the graph (relative")
    assert f", first in {first};" in message
    assert "\n" not in message


def test_passes_that_change_nothing_pass() -> None:
    model = network()
    rewritten, reports = rewrite(model, PASSES)
    prove_equal(model, rewritten, PASSES, random_images(model))
    assert [report.fired for report in reports if report.name == "fold_batchnorm"] == [2]


def cancelling() -> ir.Model:
    """Two convolutions a ten-thousandth apart, subtracted: rounding is magnified 10,000 times."""
    weight = random(4, 3, 3, 3, low=0.5)
    return graph(
        """net (float[N,3,8,8] x) => (float[N,4,6,6] y) {
            a = Conv (x, w)
            b = Conv (x, v)
            y = Sub (a, b)
        }""",
        w=weight,
        v=(weight * np.float32(1.0001)).astype(np.float32),
    )


def in_thirds(model: ir.Model) -> PassReport:
    """The same function in another order of summation: a third of the weights, three times."""
    conv = node(model, "a")
    weight = conv.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    third = ir.val("third", const_value=ir.tensor(weight.const_value.numpy() / np.float32(3)))
    model.graph.register_initializer(third)
    x = conv.inputs[0]
    assert x is not None
    parts = [ir.node("Conv", [x, third], name=f"part{i}") for i in range(3)]
    total = ir.node("Sum", [part.outputs[0] for part in parts], name="total")
    model.graph.insert_before(conv, [*parts, total])
    conv.outputs[0].replace_all_uses_with(total.outputs[0])
    common.RemoveUnusedNodesPass()(model)
    return PassReport("in_thirds", 1)


def test_what_rounding_alone_does_to_a_cancelling_network_is_no_fault() -> None:
    model = cancelling()
    rewritten, _ = rewrite(model, (in_thirds,))
    prove_equal(model, rewritten, (in_thirds,), random_images(model))


def test_a_wrong_pass_of_a_cancelling_network_is_found_all_the_same() -> None:
    model = cancelling()

    def dropped(model: ir.Model) -> PassReport:
        node(model, "y").replace_input_with(1, node(model, "a").outputs[0])
        return PassReport("dropped", 1)

    rewritten, _ = rewrite(model, (dropped,))
    with pytest.raises(BuildError, match="the pass dropped changes"):
        prove_equal(model, rewritten, (dropped,), random_images(model))


def test_large_numbers_that_cancel_inside_are_rounding_too() -> None:
    """A common offset that the BatchNormalization takes away again, as after raw pixels."""
    ones = np.ones(4, np.float32)
    weight = random(4, 3, 3, 3)
    model = graph(
        """net (float[N,3,8,8] x) => (float[N,4,6,6] y) {
            c = Conv (x, w, offset)
            y = BatchNormalization (c, scale, shift, mean, variance)
        }""",
        w=weight,
        offset=10_000 * ones,
        scale=ones,
        shift=0 * ones,
        mean=10_000 * ones,
        variance=ones,
    )
    rewritten, _ = rewrite(model, PASSES)
    images = random_images(model)
    assert difference(answer(rewritten, images), answer(model, images)) > LIMIT
    prove_equal(model, rewritten, PASSES, images)
    kept = node(model, "c").inputs[1]
    assert kept is not None
    assert kept.const_value is not None
    np.testing.assert_array_equal(kept.const_value.numpy(), weight)


def test_pixels_are_numbers_too() -> None:
    model = graph(
        """net (uint8[N,8,8,3] x) => (float[N,4,6,6] y) {
            f = Cast <to=1> (x)
            t = Transpose <perm=[0,3,1,2]> (f)
            y = Conv (t, w)
        }""",
        w=random(4, 3, 3, 3),
    )

    def turn(model: ir.Model) -> PassReport:
        transpose = next(n for n in model.graph if is_op(n, "Transpose"))
        transpose.attributes["perm"] = ir.AttrInt64s("perm", [0, 3, 2, 1])
        return PassReport("turn", 1)

    rewritten, _ = rewrite(model, (turn,))
    with pytest.raises(BuildError, match=r"the pass turn changes .* first in t;"):
        prove_equal(model, rewritten, (turn,), random_images(model))


def test_a_network_whose_own_numbers_are_not_finite_is_told_so() -> None:
    """What a pass makes of infinity is the runtime's matter, and no fault of the pass."""
    model = graph(
        """endless (float[N,3,8,8] x) => (float[N,3,1,1] y) {
            none = Relu (x)
            endless = Log (none)
            pool = GlobalAveragePool (endless)
            y = Exp (pool)
        }"""
    )

    def shift(after: ir.Model) -> PassReport:
        pool = next(node for node in after.graph if is_op(node, "GlobalAveragePool"))
        pool.op_type = "GlobalMaxPool"
        return PassReport("shift", 1)

    after = model.clone()
    shift(after)
    with pytest.raises(BuildError, match="endless is not finite for random images, so that"):
        prove_equal(model, after, (shift,), random_images(model))
