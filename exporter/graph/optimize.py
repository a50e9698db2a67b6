"""The optimized graph: what every target's lowering starts from.

Standard ONNX only. Each pass is one file in `passes/`, and this is their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from onnx_ir.passes import common

from exporter.artifact import Model, PassReport
from exporter.graph.equality import LIMIT, answer, difference, random_images, why_not_proved
from exporter.graph.exported import check_exported, eager_answer
from exporter.graph.rewrite import prove_equal, rewrite
from exporter.passes.blocks import GraphFacts, block_of_nodes, find_residual_blocks
from exporter.passes.canonicalize_head import canonicalize_head
from exporter.passes.canonicalize_sum import canonicalize_sum
from exporter.passes.fold_batchnorm import fold_batchnorm
from exporter.passes.name_tensors import name_tensors
from exporter.passes.remove_export_noise import remove_export_noise
from exporter.passes.strip_provenance import strip_provenance

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch


@dataclass(frozen=True)
class OptimizedModel:
    """A model and its optimized graph: what lowering starts from and receipts count against."""

    model: Model
    """With the residual blocks in its specification."""
    graph: ir.Model
    facts: GraphFacts


def _name_blocks(graph: ir.Model) -> PassReport:
    return name_tensors(graph, block_of_nodes(find_residual_blocks(graph)))


PASSES: Final = (
    remove_export_noise,
    name_tensors,  # from the module paths in the metadata, before that goes
    strip_provenance,
    canonicalize_sum,
    canonicalize_head,
    fold_batchnorm,
    _name_blocks,
)
"""Every pass that makes the optimized graph, in this order."""


def optimize(
    graph: ir.Model, module: torch.nn.Module | None = None
) -> tuple[ir.Model, tuple[PassReport, ...]]:
    """BatchNormalization folded, the head canonical, every tensor named; the given graph stays.

    The result answers random images as the graph does, and as the module that it was exported
    from, where there is one (see `why_not_proved`).

    Raises:
        BuildError: the result is not valid ONNX, or a pass, or PyTorch's exporter, has changed what
            it answers; the message has the checker's, or names the pass and the tensor.
    """
    inferred = graph.clone()
    common.ShapeInferencePass()(inferred)
    optimized, reports = rewrite(inferred, PASSES)
    if why_not_proved() is not None:
        return optimized, reports
    images = random_images(graph)
    if module is None:
        prove_equal(inferred, optimized, PASSES, images)
    elif difference(answer(optimized, images), eager_answer(module, images)) > LIMIT:
        prove_equal(inferred, optimized, PASSES, images)
        check_exported(inferred, module, images)
    return optimized, reports
