"""Grouped convolutions of few channels: ONNX Runtime multiplies one small matrix a group."""

from __future__ import annotations

from collections.abc import Collection

from exporter.artifact import Operation
from exporter.causes.case import Case, counted
from exporter.causes.finding import Claim
from exporter.passes.forms.merge_groups import merge_groups
from exporter.passes.values import is_op


def find(case: Case, free: Collection[int]) -> Claim | None:  # noqa: ARG001 - they compute in 8 bits
    """The 8-bit kernels of convolutions whose groups our build merges (bit for bit equal)."""
    merged = case.graph.clone()
    if not merge_groups(merged).fired:
        return None
    after = {str(n.name): n.attributes.get_int("group", 1) for n in merged.graph}
    before = {
        name: node.attributes.get_int("group", 1)
        for name, node in case.nodes.items()
        if is_op(node, "Conv")
    }
    seen = [name for name, groups in before.items() if after.get(name) != groups]
    convolutions = case.does(Operation.CONV, range(len(case.kernels)))
    seeds = {i for name in seen for i in case.kernels_of(case.nodes[name], convolutions)}
    if not seeds:
        return None
    return Claim(
        f"{len(seen)} grouped convolutions have few channels a group ({counted(seen)}): the "
        "runtime multiplies one small matrix a group",
        "merge small groups into wider ones with zeros between them, which is equal bit for bit",
        frozenset(seeds),
    )
