"""The units of a network: its blocks, what is before them, and behind; and where each is cut."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from exporter.passes.blocks import find_residual_blocks
from exporter.passes.units import Ends, Unit, ends_of, kept_names, units_of
from tests.causes import planted
from tests.graphs import graph, random


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return planted.network()


def units(model: ir.Model) -> dict[str, Unit]:
    return {unit.name: unit for unit in units_of(model, find_residual_blocks(model))}


def ends(model: ir.Model) -> dict[str, Ends]:
    blocks = find_residual_blocks(model)
    return {name: ends_of(model, unit, blocks) for name, unit in units(model).items()}


def test_blocks_stem_and_head_share_no_node(network: ir.Model) -> None:
    found = units(network)
    assert list(found) == ["stem", "layer1", "layer2", "layer3", "head"]
    assert found["layer2"].keep == ("layer2",)
    stem, head = found["stem"], found["head"]
    assert stem.keep == ("stem", "relu")
    assert set(stem.keep).isdisjoint(head.keep)
    assert stem.counted == ("stem",)
    assert head.counted == ("fc",)


def test_a_unit_is_cut_at_what_others_read_of_it(network: ir.Model) -> None:
    found = ends(network)
    assert found["stem"] == Ends((), ("relu",))
    assert found["layer1"] == Ends(("relu",), found["layer2"].inputs)
    assert found["head"] == Ends(found["layer3"].outputs, ("logits",))


def test_a_lone_layer_takes_its_relu_along_and_a_head_may_end_in_indices() -> None:
    model = graph(
        """net (float[N,3,8,8] x) => (float[N,4,8,8] y, int64[N,1,8,8] z) {
            h = Conv <pads=[1,1,1,1]> (x, a)
            r = Relu (h)
            y = Conv <pads=[1,1,1,1]> (r, b)
            z = ArgMax <axis=1> (y)
        }""",
        a=random(4, 3, 3, 3),
        b=random(4, 4, 3, 3),
    )
    assert ends(model) == {"h": Ends((), ("r",)), "y": Ends(("r",), ("y",))}
    everything = Unit("head", ("h", "r", "y", "z"), ("h", "y"))
    assert ends_of(model, everything, ()) == Ends((), ("y",))


def test_each_layer_of_a_network_without_blocks_is_one() -> None:
    model = graph(
        "net (float[N,3,8,8] x) => (float[N,4,8,8] y) { h = Conv <pads=[1,1,1,1]> (x, a) "
        "r = Relu (h) y = Conv <pads=[1,1,1,1]> (r, b) }",
        a=random(4, 3, 3, 3),
        b=random(4, 4, 3, 3),
    )
    found = units(model)
    convs = [str(node.name) for node in model.graph if node.op_type == "Conv"]
    assert list(found) == convs
    assert kept_names(found, convs[:1]) == ((convs[0],), (convs[0],))
