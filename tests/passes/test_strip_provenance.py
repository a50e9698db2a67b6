"""Nothing of the machine or the tool that made a graph stays in it."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from exporter.graph.files import serialize
from exporter.passes.strip_provenance import strip_provenance
from tests.graphs import graph, random

SECRET = "/home/somebody/project/net.py"


def test_metadata_goes_from_everything_that_can_carry_it() -> None:
    model = graph(
        "net (float[N,3,6,6] x) => (float[N,4,4,4] y) { y = Conv (x, w) }", w=random(4, 3, 3, 3)
    )
    weight = model.graph.initializers["w"]
    graph_parts = (model.graph, model.graph[0], *model.graph.inputs, *model.graph.outputs, weight)
    carriers: list[Any] = [model, *graph_parts]
    for thing in carriers:
        thing.metadata_props["pkg.torch.onnx.stack_trace"] = SECRET
        thing.doc_string = SECRET
    weight.const_value = ir.tensor(random(4, 3, 3, 3), name="w", doc_string=SECRET)
    model.producer_name = model.producer_version = model.domain = SECRET
    model.graph.name = SECRET
    assert SECRET.encode() in serialize(model)
    assert strip_provenance(model).fired > 0
    content = serialize(model)
    assert SECRET.encode() not in content
    assert strip_provenance(model).fired == 0
    assert serialize(model) == content
