"""The optimized graph: what every target's lowering starts from.

Standard ONNX only. Each pass is one file in `passes/`, and this is their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx_ir.passes import common

from exporter.artifact import Model, PassReport
from exporter.graph.files import check
from exporter.passes.blocks import GraphFacts, block_of_nodes, find_residual_blocks
from exporter.passes.canonicalize_head import canonicalize_head
from exporter.passes.canonicalize_sum import canonicalize_sum
from exporter.passes.fold_batchnorm import fold_batchnorm
from exporter.passes.name_tensors import name_tensors
from exporter.passes.remove_export_noise import remove_export_noise
from exporter.passes.strip_provenance import strip_provenance

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class OptimizedModel:
    """A model and its optimized graph: what lowering starts from and receipts count against."""

    model: Model
    """With the residual blocks in its specification."""
    graph: ir.Model
    facts: GraphFacts


PASSES = (
    remove_export_noise,
    name_tensors,  # from the module paths in the metadata, before that goes
    strip_provenance,
    canonicalize_sum,
    canonicalize_head,
    fold_batchnorm,
)
"""Every pass that makes the optimized graph, in this order."""


def optimize(graph: ir.Model) -> tuple[ir.Model, tuple[PassReport, ...]]:
    """BatchNormalization folded, the head canonical, every tensor named; the given graph stays.

    Raises:
        BuildError: the result is not valid ONNX; the message has the checker's.
    """
    optimized = graph.clone()
    common.ShapeInferencePass()(optimized)
    reports = [run(optimized) for run in PASSES]
    blocks = find_residual_blocks(optimized)
    reports.append(name_tensors(optimized, block_of_nodes(blocks)))
    check(optimized)
    return optimized, tuple(reports)
