"""Remove every trace of who made the graph, where and how, apart from its names.

Metadata, documentation strings and producer names go: PyTorch writes the stack trace of each node
with absolute paths of the build machine, which also makes two exports of one model differ.
Module paths have to be in the names by then (`name_tensors`).
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from exporter.artifact import PassReport

_GRAPH_NAME = "main"


def strip_provenance(model: ir.Model) -> PassReport:
    """Counts as fired each object that carried metadata or a documentation string."""
    fired = 0
    for thing in _described(model.graph):
        if thing.metadata_props or thing.doc_string:
            thing.metadata_props.clear()
            thing.doc_string = None
            fired += 1
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and (tensor.metadata_props or tensor.doc_string):
            # A new one: clones share tensors.
            value.const_value = ir.tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)
            fired += 1
    if model.metadata_props or model.doc_string or model.producer_name or model.domain:
        fired += 1
    model.metadata_props.clear()
    model.doc_string = model.domain = None
    model.producer_name = model.producer_version = None
    model.model_version = None
    model.graph.name = _GRAPH_NAME
    return PassReport("strip_provenance", fired)


def _described(graph: ir.Graph) -> Iterator[ir.Graph | ir.Node | ir.Value]:
    yield graph
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield node
        yield from node.outputs
