"""Our INT8 placement for TensorRT against what ModelOpt chose for the same networks.

What differs is named here and explained in docs/decisions/0035; anything else is a change. The
same of ResNet-50, whose export other tests need too, is in tests/passes/qdq/test_s8_symmetric.py.
"""

from __future__ import annotations

import json
import re

import onnx
import pytest

from benchmarks.placement import NETWORKS, REFERENCE, Placement, placement_of
from exporter.artifact import CalibrationMethod, Dialect, Precision
from exporter.graph.files import serialize
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.models.sources import define
from exporter.passes.qdq.ranges import Ranges
from exporter.passes.qdq.tensors import tensors_with_a_range
from exporter.progress import Silent

OURS_ALONE = {("fc", "0,1")}
THEIRS_ALONE = {("maxpool", "0"), ("avgpool", "0")}
POOLED_SHORTCUT = re.compile(r"layer[234]\.0\.downsample\.0")
RECORDED: dict[str, Placement] = json.loads(REFERENCE.read_text(encoding="utf-8"))["placements"]


def ours(source: str) -> Placement:
    """The placement in our graph; it depends on the network alone, not on ranges or image size."""
    graph, _ = optimize(export(define(source, "random", image_size=32, progress=Silent())))
    tensors = {str(value.name): (-1.0, 1.0) for value in tensors_with_a_range(graph.graph)}
    ranges = Ranges(CalibrationMethod.MINMAX, 1, "", tensors)
    lowered, _ = lower(graph, Lowering(Precision.INT8, Dialect.S8_SYMMETRIC, ranges=ranges))
    return placement_of(onnx.load_from_string(serialize(lowered)))


def pairs(placement: Placement) -> set[tuple[str, str]]:
    return {(node, inputs) for inputs, nodes in placement.items() for node in nodes}


def test_every_network_is_recorded() -> None:
    assert list(RECORDED) == list(NETWORKS)


@pytest.mark.variants
@pytest.mark.parametrize("source", NETWORKS)
def test_it_is_nvidias_but_for_the_named_differences(source: str) -> None:
    mine, theirs = pairs(ours(source)), pairs(RECORDED[source])
    assert mine - theirs == OURS_ALONE
    assert theirs > THEIRS_ALONE
    pooled = theirs - mine - THEIRS_ALONE
    assert len(pooled) == (3 if source.endswith("26d") else 0)
    assert all(POOLED_SHORTCUT.fullmatch(node) and inputs == "0" for node, inputs in pooled)
