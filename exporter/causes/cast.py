"""Casts between floats in the middle of a graph: they part what a runtime would make one kernel."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from exporter.artifact import Operation
from exporter.causes.case import Case, counted, is_float_cast, producer, readers
from exporter.causes.finding import Claim
from exporter.passes.values import is_op
from exporter.prove.kernel_graph import own_labels


def find(case: Case, free: Collection[int]) -> Claim | None:
    """The kernels of casts, and those that compute what a cast reads or writes."""
    seeds: set[int] = set()
    seen: list[str] = []
    for name, cast in case.casts.items():
        before = producer(cast)
        if before is None:
            continue  # the network's input
        own = {i for i in free if name in own_labels(case.kernels[i])}
        beside = case.kernels_of(_arithmetic_before(cast), free)
        beside |= {i for r in readers(cast) for i in case.kernels_of(r, free)}
        if _ends_the_graph(cast) or not own | beside:
            continue
        seen.append(name)
        seeds |= own | beside
    if not seeds:
        return None
    casts = len(case.does(Operation.CAST, seeds))
    return Claim(
        f"{len(seen)} casts between floats stand between the layers ({counted(seen)}); the engine "
        f"computes {casts} of them, and what they part is not fused",
        "take the casts out, or convert the whole network to one type",
        frozenset(seeds),
    )


def _ends_the_graph(cast: ir.Node) -> bool:
    return cast.outputs[0].is_graph_output()


def _arithmetic_before(cast: ir.Node) -> ir.Node | None:
    """What computes the cast's input, other casts and pairs looked through."""
    node = producer(cast)
    while node is not None and (
        is_float_cast(node) or is_op(node, "QuantizeLinear", "DequantizeLinear")
    ):
        node = producer(node)
    return node
