"""Residual blocks are found by structure, whatever wrote the graph, and named once for all."""

from __future__ import annotations

import re

import onnx_ir as ir
import pytest

from exporter.graph.optimize import optimize
from exporter.passes.blocks import (
    GraphFacts,
    ResidualBlock,
    Shortcut,
    block_of_nodes,
    find_residual_blocks,
)
from tests.graphs import Array, graph, random


def weights(*names: str, kernel: int = 3) -> dict[str, Array]:
    """4 -> 4 channels each."""
    return {name: random(4, 4, kernel, kernel, seed=i) for i, name in enumerate(names)}


def norms(*names: str) -> dict[str, Array]:
    return {f"{name}{i}": random(4, seed=i, low=0.5, high=1.5) for name in names for i in range(4)}


def net(body: str, **arrays: Array) -> ir.Model:
    """(N, 4, 8, 8) to the same. `Conv3` has its padding, `Norm (c, m)` the parameters m0..m3."""
    body = body.replace("Conv3", "Conv <pads=[1,1,1,1]>")
    parameters = r"\g<2>0, \g<2>1, \g<2>2, \g<2>3"
    body = re.sub(r"Norm \((\w), (\w)\)", rf"BatchNormalization (\g<1>, {parameters})", body)
    return graph(f"net (float[N,4,8,8] x) => (float[N,4,8,8] y) {{ {body} }}", **arrays)


def only(model: ir.Model) -> ResidualBlock:
    (block,) = find_residual_blocks(model)
    return block


def test_a_basic_block_with_an_identity() -> None:
    model = net(
        """i = Relu (x) c = Conv3 (i, w) r = Relu (c) d = Conv3 (r, v) s = Add (d, i)
           z = Relu (s) y = Sigmoid (z)""",
        **weights("w", "v"),
    )
    assert only(model) == ResidualBlock(
        name="block1",
        add="s",
        shortcut=Shortcut.IDENTITY,
        input="i",
        output="z",
        nodes=("c", "r", "d", "s", "z"),
    )


def test_a_projection_and_normalizations_not_folded() -> None:
    model = net(
        """i = Relu (x) c = Conv3 (i, w) n = Norm (c, m) r = Relu (n) d = Conv3 (r, v)
           o = Norm (d, n) p = Conv (i, u) q = Norm (p, o) s = Add (q, o) y = Relu (s)""",
        **weights("w", "v"),
        **weights("u", kernel=1),
        **norms("m", "n", "o"),
    )
    block = only(model)
    assert block.shortcut == "projection"
    assert block.nodes == ("c", "n", "r", "d", "o", "p", "q", "s", "y")
    assert (block.input, block.output) == ("i", "y")


def test_a_pooled_shortcut_without_weights_is_an_identity() -> None:
    model = net(
        """i = Relu (x) c = Conv3 (i, w) p = MaxPool <kernel_shape=[1,1]> (i)
           s = Add (c, p) y = Relu (s)""",
        **weights("w"),
    )
    assert only(model).shortcut == "identity"


def test_pre_activation_blocks_in_a_row() -> None:
    """The sum is read by the next block's normalization and by the next sum: no Relu of its own."""
    model = net(
        """i = Conv3 (x, w)
           a = Norm (i, m) b = Relu (a) c = Conv3 (b, v) s = Add (c, i)
           e = Norm (s, n) f = Relu (e) g = Conv3 (f, u) t = Add (s, g)
           y = Relu (t)""",
        **weights("w", "v", "u"),
        **norms("m", "n"),
    )
    first, second = find_residual_blocks(model)
    assert (first.input, first.add, first.output) == ("i", "s", "s")
    assert first.nodes == ("a", "b", "c", "s")
    assert (second.input, second.add, second.output) == ("s", "t", "y")
    assert second.nodes == ("e", "f", "g", "t", "y")


def test_squeeze_and_excitation_does_not_confuse() -> None:
    """Its gate forks inside the block; its hard sigmoid adds a constant."""
    model = net(
        """i = Relu (x) c = Conv3 (i, w)
           p = GlobalAveragePool (c) q = Conv (p, u) h = Add (q, three) g = Sigmoid (h)
           m = Mul (c, g) s = Add (m, i) y = Relu (s)""",
        **weights("w"),
        **weights("u", kernel=1),
        three=random(1),
    )
    block = only(model)
    assert block.add == "s"
    assert block.nodes == ("c", "p", "q", "h", "g", "m", "s", "y")


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv3 (x, w) y = Add (c, bias)",
        "t = Tanh (x) s = Add (x, t) y = Conv3 (s, w)",
        """c = Conv3 (x, w) a, b = Split <axis=1, num_outputs=2> (c) s = Add (a, b)
           y = Concat <axis=1> (s, s)""",
        "c = Conv3 (x, w) p = GlobalAveragePool (c) y = Add (x, p)",
        "c = Conv3 (x, w) y = Add (c, c)",
    ],
    ids=["bias", "inside an activation", "splits of one", "broadcast", "with itself"],
)
def test_other_sums_are_not_residual(body: str) -> None:
    model = net(body, **weights("w"), bias=random(4, 1, 1))
    assert find_residual_blocks(model) == ()


def test_a_skip_from_the_networks_input_is_residual() -> None:
    """As in super-resolution: the sum costs as much as any other."""
    block = only(net("c = Conv3 (x, w) y = Add (c, x)", **weights("w")))
    assert (block.input, block.shortcut, block.output) == ("x", "identity", "y")


def test_a_long_skip_holds_the_blocks_under_it() -> None:
    model = net(
        """i = Conv3 (x, w)
           c = Conv3 (i, v) s = Add (c, i) z = Relu (s)
           d = Conv3 (z, u) t = Add (d, i) y = Relu (t)""",
        **weights("w", "v", "u"),
    )
    inner, outer = find_residual_blocks(model)
    assert inner.nodes == ("c", "s", "z")
    assert outer.nodes == ("c", "s", "z", "d", "t", "y")
    owner = block_of_nodes((inner, outer))
    assert (owner["c"], owner["d"]) == (inner.name, outer.name)


def two_sums(**names: str) -> ir.Model:
    """Two blocks of one convolution; nodes may be renamed."""
    model = net(
        """i = Relu (x) c = Conv3 (i, w) s = Add (c, i) z = Relu (s)
           d = Conv3 (z, v) t = Add (d, z) u = Relu (t) y = Sigmoid (u)""",
        **weights("w", "v"),
    )
    for node in model.graph:
        node.name = names.get(str(node.name), str(node.name))
    return model


@pytest.mark.parametrize(
    ("conv", "add", "expected"),
    [
        (("a.0.conv", "a.1.conv"), ("a.0.add", "a.1.add"), ("a.0", "a.1")),
        (("conv", "conv_1"), ("add", "add_1"), ("block1", "block2")),
        (("a.f.conv", "a.g.conv"), ("a.add", "a.add_1"), ("a.block1", "a.block2")),
        (("a.0.conv", "conv"), ("a.0.add", "add"), ("a.0", "block1")),
        (("block1.conv", "conv"), ("block1.add", "add"), ("block1", "block2")),
    ],
    ids=["modules", "no modules", "one module, two sums", "half", "a module called block1"],
)
def test_names(conv: tuple[str, str], add: tuple[str, str], expected: tuple[str, str]) -> None:
    names = {"c": conv[0], "s": add[0], "d": conv[1], "t": add[1]}
    blocks = find_residual_blocks(two_sums(**names))
    assert tuple(block.name for block in blocks) == expected


@pytest.mark.parametrize("scope", ["", "body."])
def test_after_optimizing_each_block_is_found_again_under_its_name(scope: str) -> None:
    """And every node and tensor in it carries that name."""
    order = ("i", "c", "s", "z", "d", "t", "u", "y")
    model = two_sums(**{label: f"{scope}n{index}" for index, label in enumerate(order)})
    optimized, reports = optimize(model)
    blocks = find_residual_blocks(optimized)
    assert [block.name for block in blocks] == [f"{scope}block1", f"{scope}block2"]
    for block in blocks:
        for name in (block.add, block.output, *block.nodes):
            assert name.startswith(f"{block.name}.")
    again, _ = optimize(optimized)
    assert find_residual_blocks(again) == blocks
    facts = GraphFacts.of(optimized, reports, blocks)
    assert (facts.convs, facts.batchnorms_folded, facts.blocks) == (2, 0, blocks)
    assert [node.op for node in facts.nodes].count("Conv") == 2
    assert {name for node in facts.nodes for name in node.operands} - {""} <= {
        node.name for node in facts.nodes
    }


def test_nested_blocks_keep_their_names() -> None:
    model = net(
        """i = Conv3 (x, w)
           c = Conv3 (i, v) s = Add (c, i) z = Relu (s)
           d = Conv3 (z, u) t = Add (d, i) y = Relu (t)""",
        **weights("w", "v", "u"),
    )
    optimized, _ = optimize(model)
    names = [block.name for block in find_residual_blocks(optimized)]
    assert names == ["block1", "block2"]
    again, _ = optimize(optimized)
    assert [block.name for block in find_residual_blocks(again)] == names
