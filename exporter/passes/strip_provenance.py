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
"""The name of every graph: exporters put a class or a file there."""


def strip_provenance(graph: ir.Model) -> PassReport:
    """Counts as fired each object that carried metadata or a documentation string."""
    fired = 0
    for thing in _described(graph.graph):
        if thing.metadata_props or thing.doc_string:
            thing.metadata_props.clear()
            thing.doc_string = None
            fired += 1
    for value in graph.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and (tensor.metadata_props or tensor.doc_string):
            # A new one: clones share tensors.
            value.const_value = ir.tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)
            fired += 1
    if graph.metadata_props or graph.doc_string or graph.producer_name or graph.domain:
        fired += 1
    graph.metadata_props.clear()
    graph.doc_string = graph.domain = None
    graph.producer_name = graph.producer_version = None
    graph.model_version = None
    graph.graph.name = _GRAPH_NAME
    return PassReport("strip_provenance", fired)


def _described(body: ir.Graph) -> Iterator[ir.Graph | ir.Node | ir.Value]:
    yield body
    yield from body.inputs
    yield from body.initializers.values()
    for node in body:
        yield node
        yield from node.outputs
