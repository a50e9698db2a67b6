"""The units of a network: its blocks, what is before them, and behind."""

from __future__ import annotations

from exporter.passes.blocks import find_residual_blocks
from exporter.search.units import kept_names, units_of
from tests.graphs import graph, random
from tests.search.engines import COSTS, Engines


def test_blocks_stem_and_head_share_no_node(engines: Engines) -> None:
    assert list(engines.units) == list(COSTS)
    assert engines.units["layer2"].keep == ("layer2",)
    stem, head = engines.units["stem"], engines.units["head"]
    assert set(stem.keep).isdisjoint(head.keep)
    assert "stem.0" in stem.keep
    assert stem.counted == ("stem.0",)
    assert head.counted == ("fc",)


def test_each_layer_of_a_network_without_blocks_is_one() -> None:
    model = graph(
        "net (float[N,3,8,8] x) => (float[N,4,8,8] y) { h = Conv <pads=[1,1,1,1]> (x, a) "
        "r = Relu (h) y = Conv <pads=[1,1,1,1]> (r, b) }",
        a=random(4, 3, 3, 3),
        b=random(4, 4, 3, 3),
    )
    units = {unit.name: unit for unit in units_of(model, find_residual_blocks(model))}
    convs = [str(node.name) for node in model.graph if node.op_type == "Conv"]
    assert list(units) == convs
    assert kept_names(units, convs[:1]) == ((convs[0],), (convs[0],))
