"""The ceilings: every kernel that is here runs, and the best of each type is the ceiling."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from exporter import host
from exporter.artifact import Skipped
from exporter.measure import ceiling_graphs as graphs
from exporter.measure.ceilings import measure_ceilings
from exporter.measure.timing import Ceilings
from exporter.report.roofline import ceilings_of
from exporter.report.traced import Traced
from exporter.runtime.machine import BF16_FLAG
from exporter.targets.ort import session as ort_session
from exporter.targets.ort.session import make_session, session_options
from tests import manifests

FLAGS = host.cpu_flags()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No BF16: nothing here depends on the CPU."""
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"avx2"}))


def hide(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """As if they were not installed: the next import of each fails."""
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)


def measured(threads: int = 1) -> Ceilings:
    found = measure_ceilings(threads)
    assert isinstance(found, Ceilings), found
    return found


def test_the_best_kernel_of_each_type_is_the_ceiling() -> None:
    before = torch.get_num_threads()
    found = measured()
    assert torch.get_num_threads() == before
    for kind, ceiling in (("fp32", found.fp32_gops), ("int8", found.int8_gops)):
        rates = [rate for name, rate in found.kernels.items() if name.startswith(kind)]
        assert len(rates) >= 3
        assert ceiling == max(rates) > 0
    assert found.copy_gb_s > 0
    assert found.threads == 1
    assert found.left_out == {}


@pytest.mark.skipif(BF16_FLAG not in FLAGS, reason="a product in BF16 takes a minute here")
def test_bf16_has_a_ceiling_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured().bf16_gops is None
    monkeypatch.setattr(host, "cpu_flags", lambda: FLAGS)
    found = measured()
    rates = [rate for name, rate in found.kernels.items() if name.startswith("bf16")]
    assert found.bf16_gops == max(rates) > 0
    assert len(rates) == 2


@pytest.mark.parametrize("library", ["openvino", "torch", "onnxruntime"])
def test_ceilings_without_a_library_are_those_of_the_others(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    every = set(measured().kernels)
    hide(monkeypatch, library)
    found = measured(2)
    its = {name for name in every if name.endswith(library)}
    assert its
    assert set(found.left_out) == its
    assert set(found.kernels) == every - its
    assert all(library in why.skipped for why in found.left_out.values())
    assert found.fp32_gops > 0
    assert found.int8_gops > 0
    assert found.copy_gb_s > 0


def test_a_library_that_fails_costs_its_own_kernels_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("this CPU\nis not supported")

    monkeypatch.setattr(graphs, "convolutions", fail)
    found = measured()
    assert {name.partition(",")[0] for name in found.left_out} == {
        "fp32 convolutions",
        "int8 convolutions",
    }
    assert {why.skipped for why in found.left_out.values()} == {"this CPU is not supported"}


def test_without_any_kernel_of_a_type_there_are_no_ceilings_and_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, "openvino", "onnxruntime")
    found = measure_ceilings(1)
    assert isinstance(found, Skipped)
    assert "too few kernels can be tried here" in found.skipped
    assert "int8 convolutions, openvino: " in found.skipped
    # What the report makes of it: no roof, and no error.
    build = manifests.resnet50()
    build = replace(build, host=replace(build.host, ceilings=found))
    assert ceilings_of(Traced(build)) is None


@pytest.mark.parametrize(
    ("content", "given", "kind"),
    [
        (graphs.product(int8=False), graphs.PRODUCT_INPUT, "float32"),
        (graphs.product(int8=True), graphs.PRODUCT_INPUT, "uint8"),
        (graphs.product_integer(), graphs.PRODUCT_INPUT, "uint8"),
        (graphs.convolutions(int8=False), graphs.CONV_INPUT, "float32"),
        (graphs.convolutions(int8=True), graphs.CONV_INPUT, "uint8"),
    ],
    ids=["product", "product-int8", "product-integer", "convolutions", "convolutions-int8"],
)
@pytest.mark.parametrize("flags", [{"avx2"}, {"avx2", "avx512_vnni"}], ids=["avx2", "vnni"])
def test_the_graphs_are_valid_and_finite_on_any_cpu(
    content: bytes,
    given: tuple[int, ...],
    kind: str,
    flags: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without VNNI, ONNX Runtime rewrites the weights and zero points of INT8."""
    monkeypatch.setattr(ort_session, "cpu_flags", lambda: frozenset(flags))
    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
    session = make_session(content, session_options(2))
    (answer,) = session.run(None, {"x": np.ones(given, kind)})
    assert np.isfinite(answer).all()
