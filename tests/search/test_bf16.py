"""Blocks kept in BF16: the graph on any CPU, what OpenVINO makes of it where that is computed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx_ir as ir
import pytest

from exporter import host
from exporter.artifact import ElementType, Precision, Verdict
from exporter.graph.files import save
from exporter.passes.units import kept_names
from exporter.passes.values import is_inside, is_op
from exporter.runtime.machine import BF16_FLAG
from exporter.targets import BuildOptions, get_target
from exporter.targets.ort.session import open_graph
from exporter.targets.target import Array
from tests.graphs import random, relative_error
from tests.search.engines import HURT, SIZE, Engines, hurt

BF16, FP32 = Precision.BF16, Precision.FP32
UNITS = ("stem", "layer1", "layer2", "layer3", "head")
IMAGES = random(8, 3, SIZE, SIZE, seed=7, low=-2, high=2)
here = pytest.mark.skipif(
    BF16_FLAG not in host.cpu_flags(), reason=f"this CPU computes no BF16 ({BF16_FLAG})"
)


@pytest.fixture(scope="module")
def on_openvino(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    return Engines.of(hurt(), tmp_path_factory.mktemp("openvino"), "openvino")


def among(node: ir.Node, names: Iterable[str]) -> bool:
    return any(is_inside(str(node.name), name) for name in names)


def answers(model: ir.Model, path: Path) -> Array:
    save(model, path)
    with open_graph(path, 1) as session:
        return session.run(IMAGES)


@pytest.mark.parametrize("kept", [("stem",), (HURT,), ("layer1", HURT), ("head",)])
def test_the_layers_of_the_kept_units_alone_are_in_bf16(
    engines: Engines, kept: tuple[str, ...], tmp_path: Path
) -> None:
    model = engines.lowered(kept, BF16)
    counted = kept_names(engines.units, kept)[1]
    for node in model.graph:
        inside = among(node, counted)
        if is_op(node, "Conv", "Gemm"):
            types = {value.dtype for value in node.inputs if value is not None}
            assert types == {ir.DataType.BFLOAT16 if inside else ir.DataType.FLOAT}
        if is_op(node, "QuantizeLinear"):
            assert {value.dtype for value in node.inputs[:1] if value} == {ir.DataType.FLOAT}
    found = answers(model, tmp_path / "bf16.onnx")
    exact = answers(engines.lowered(kept, FP32), tmp_path / "fp32.onnx")
    # Where a value lies between two codes, the next quantization may round it to the other one,
    # and the block that INT8 hurts makes the most of it.
    assert 0 < relative_error(found, exact) < 5e-2


@here
@pytest.mark.parametrize("kept", [(unit,) for unit in UNITS] + [("layer1", HURT), UNITS[:3]])
def test_openvino_computes_the_chosen_blocks_in_bf16(
    on_openvino: Engines, kept: tuple[str, ...]
) -> None:
    found = on_openvino.receipt(kept, told=kept)
    assert found.verdict is Verdict.FUSED, found.reason
    counted = kept_names(on_openvino.units, kept)[1]
    convs = [
        node for node in on_openvino.graph.graph if is_op(node, "Conv") and among(node, counted)
    ]
    assert found.convs_by_type.get(ElementType.BF16, 0) == len(convs)
    assert set(found.convs_by_type) <= {ElementType.BF16, ElementType.INT8}
    assert found.residual_adds_fused == found.residual_adds == 3


def test_openvino_names_the_head_that_is_kept_in_fp32(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host, "cpu_flags", frozenset)
    found = Engines.of(hurt(), tmp_path, "openvino").receipt(("head",), told=("head",))
    assert found.verdict is Verdict.FUSED, found.reason


@here
def test_its_answers_are_those_of_the_graph(on_openvino: Engines, tmp_path: Path) -> None:
    with on_openvino.target.open(on_openvino.built((HURT,)), 1) as session:
        found = session.run(IMAGES)
    exact = answers(on_openvino.lowered((HURT,)), tmp_path / "graph.onnx")
    assert relative_error(found, exact) < 3e-2


@here
def test_a_chosen_block_in_fp32_is_a_shortfall(on_openvino: Engines) -> None:
    found = on_openvino.receipt((HURT,), told=(HURT,), kept_in=FP32)
    assert found.verdict is Verdict.PARTIAL
    assert "computes in fp32 and was to be kept in bf16" in str(found.reason)


@here
def test_another_block_in_bf16_is_a_shortfall(on_openvino: Engines) -> None:
    found = on_openvino.receipt((HURT, "layer3"), told=(HURT,))
    assert found.verdict is Verdict.PARTIAL
    assert "convolutions compute in bf16" in str(found.reason)


@here
def test_it_needs_a_cpu_with_bf16(on_openvino: Engines, tmp_path: Path) -> None:
    for kept, flags in (((HURT,), [BF16_FLAG]), ((), [])):
        path = tmp_path / "graph.onnx"
        save(on_openvino.lowered(kept), path)
        built = on_openvino.target.build(path, Precision.INT8, tmp_path / "x", BuildOptions())
        assert built.requires["cpu_flags"] == flags


@pytest.mark.parametrize(
    ("flags", "kept_in"),
    [(("avx2", "avx512f"), (FP32,)), (("avx2", "avx512f", BF16_FLAG), (BF16, FP32))],
)
def test_the_target_says_what_its_cpu_computes(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], kept_in: tuple[Precision, ...]
) -> None:
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset(flags))
    assert get_target("openvino").mixes_in == kept_in
    assert get_target("ort-cpu").mixes_in == (FP32,)
