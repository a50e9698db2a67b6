"""Which lowering a precision and a dialect get, and what is refused before anything is done."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from exporter.artifact import Dialect, Precision
from exporter.errors import UsageError
from exporter.graph.files import serialize
from exporter.graph.lower import Lowering, lower
from tests.graphs import graph, operators, random


def network() -> ir.Model:
    model = graph(
        """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
            c = Conv <pads=[1,1,1,1]> (x, w)
            y = Relu (c)
        }""",
        w=random(4, 3, 3, 3),
    )
    for node, name in zip(model.graph, ("stem.conv", "stem.relu"), strict=True):
        node.name = name
    return model


def test_fp32_without_fusion_is_the_graph_itself() -> None:
    model = network()
    lowered, reports = lower(model, Lowering(Precision.FP32, Dialect.FLOAT))
    assert reports == ()
    assert lowered is not model
    assert serialize(lowered) == serialize(model)


def test_the_fused_dialect_is_another_graph_of_the_same_precision() -> None:
    fused, (report,) = lower(network(), Lowering(Precision.FP32, Dialect.FLOAT_FUSED))
    assert report.name == "fuse_residual"
    assert operators(fused) == ["FusedConv"]
    assert operators(lower(network(), Lowering(Precision.FP32, Dialect.FLOAT))[0]) == [
        "Conv",
        "Relu",
    ]


def test_fusion_is_for_fp32_alone() -> None:
    with pytest.raises(UsageError, match="no lowering to fp16 in the dialect float-fused"):
        lower(network(), Lowering(Precision.FP16, Dialect.FLOAT_FUSED))
    half, (report,) = lower(network(), Lowering(Precision.FP16, Dialect.FLOAT))
    assert report.name == "convert_fp16"
    assert operators(half) == ["Cast", "Conv", "Relu", "Cast"]


def test_what_is_kept_is_a_node_or_a_module() -> None:
    for keep in ("stem.conv", "stem"):
        _, (report,) = lower(network(), Lowering(Precision.FP16, Dialect.FLOAT, keep=(keep,)))
        assert "stem.conv" in dict(report.refused)


def test_a_name_to_keep_that_is_not_there_lists_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'stem\.konv'; did you mean stem\.conv"):
        lower(network(), Lowering(Precision.FP16, Dialect.FLOAT, keep=("stem.konv",)))


def test_a_dialect_that_the_precision_has_not() -> None:
    with pytest.raises(UsageError, match="no lowering to fp16 in the dialect u8-asymmetric"):
        lower(network(), Lowering(Precision.FP16, Dialect.U8_ASYMMETRIC))


def test_int8_without_ranges() -> None:
    with pytest.raises(UsageError, match="needs calibrated ranges"):
        lower(network(), Lowering(Precision.INT8, Dialect.S8_SYMMETRIC))
