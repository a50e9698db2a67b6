"""BatchNormalization behind a convolution that nobody folded into it before quantizing."""

from __future__ import annotations

from collections.abc import Collection

from exporter.artifact import Operation
from exporter.causes.case import Case, counted
from exporter.causes.finding import Claim


def find(case: Case, free: Collection[int]) -> Claim | None:
    """The kernels that normalise, where the network has a convolution to fold it into."""
    after = {
        node.name: node.operands[0]
        for node in case.facts.nodes
        if node.op == "BatchNormalization" and node.operands
    }
    convolutions = {n.name for n in case.facts.nodes if n.op == "Conv" and n.readers == 1}
    seeds: set[int] = set()
    seen: list[str] = []
    for name, before in after.items():
        own = case.kernels_of(case.nodes.get(name), free)
        if before not in convolutions or not own:
            continue
        seen.append(name)
        seeds |= own | case.kernels_of(case.nodes.get(before), free)
    if not seeds:
        return None
    apart = len(case.does(Operation.BATCHNORM, seeds)) or len(seen)
    return Claim(
        f"{len(seen)} BatchNormalizations are not folded into the convolutions before them "
        f"({counted(seen)}): {apart} kernels in float",
        "fold them before quantizing (torch.onnx's optimize=True, or "
        "onnxruntime.quantization.preprocess on the float32 file)",
        frozenset(seeds),
    )
