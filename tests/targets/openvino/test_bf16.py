"""BF16 on OpenVINO: a real engine where the CPU computes in it, one line where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest

from exporter import host
from exporter.artifact import Dialect, ElementType, Precision, Verdict
from exporter.builds import manifest as manifests
from exporter.builds.records import EngineRecord
from exporter.builds.request import ExportRequest
from exporter.commands.validate import validate_build
from exporter.errors import BuildError, UsageError
from exporter.images.embedded import DIGITS
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.pipeline import export_model
from exporter.progress import Silent
from exporter.prove.certificate import Parity
from exporter.prove.drift import measure_drift
from exporter.runtime import NoEngineError, load
from exporter.runtime.machine import BF16_FLAG
from exporter.targets.openvino.cpu import OpenVino

here = pytest.mark.skipif(
    BF16_FLAG not in host.cpu_flags(), reason=f"this CPU computes no BF16 ({BF16_FLAG})"
)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """resnet20-digits in BF16, one block kept in FP32."""
    request = ExportRequest(
        targets=("openvino",),
        precisions=(Precision.BF16,),
        keep=("layer2.1",),
        samples=64,
        out=tmp_path_factory.mktemp("bf16") / "digits",
        measure=False,
    )
    outcome = export_model(request, Silent())
    assert outcome.manifest.failures == ()
    return outcome.folder


def engine_of(build: Path) -> EngineRecord:
    (engine,) = manifests.read(build).engines
    return engine


def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if OpenVINO found a CPU without it."""
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])


@here
def test_its_kernels_compute_in_bf16_but_for_what_was_kept(build: Path) -> None:
    engine = engine_of(build)
    receipt = engine.receipt
    assert receipt.verdict is receipt.expected is Verdict.FUSED, receipt.reason
    assert receipt.convs_by_type == {ElementType.BF16: 19, ElementType.FP32: 2}
    assert (receipt.residual_adds_fused, receipt.float_ops) == (9, 0)
    kept = next(block for block in receipt.blocks if block.name == "layer2.1")
    convs = {kernel.dtype for kernel in kept.kernels if "conv" in kernel.does}
    assert convs == {ElementType.FP32}
    assert engine.requires["cpu_flags"] == ["avx512_bf16"]


@here
def test_its_answers_are_those_of_bf16(build: Path) -> None:
    parity = engine_of(build).parity
    assert isinstance(parity, Parity)
    assert parity.passed
    # 8 bits a number, and rounding errors that add up over 21 layers: more than FP16's by far.
    assert 1e-3 < parity.rel_l2 < 1e-2


@here
def test_drift_tells_the_block_that_stayed_in_fp32(build: Path) -> None:
    manifest = manifests.read(build)
    found = measure_drift(build, manifest.engines, manifest.model, 2, Silent())
    assert found.failures == ()
    added = {block.name: block.added_rel_l2 for block in found.blocks["openvino.bf16"]}
    assert min(added, key=lambda name: added[name]) == "layer2.1"
    assert all(1e-4 < error < 1e-2 for error in added.values())


@here
def test_a_bundle_serves_it_where_the_cpu_has_bf16_and_refuses_elsewhere(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack(PackRequest(build, out=tmp_path / "bundle"), Silent()).path
    split = DIGITS.splits()[1]
    with load(packed) as engine:
        labels = engine(split.images[:16]).argmax(axis=1)
    assert np.mean(labels == split.labels[:16]) > 0.9
    monkeypatch.setattr("exporter.runtime.choice.cpu_flags", lambda: frozenset({"avx2"}))
    with pytest.raises(NoEngineError, match=r"openvino\.bf16: this CPU lacks avx512_bf16"):
        load(packed)
    monkeypatch.setattr("exporter.runtime.choice.cpu_flags", frozenset)
    without_bf16(monkeypatch)
    with pytest.raises(NoEngineError, match="no BF16 arithmetic on this CPU"):
        load(packed)


@here
def test_an_engine_from_elsewhere_is_not_computed_in_fp32(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        without_bf16(elsewhere)
        with pytest.raises(BuildError, match="no BF16 arithmetic on this CPU"):
            OpenVino().open(build / engine_of(build).path, 1)
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"avx2"}))
    validation = validate_build(build, blocks=False, threads=1, progress=Silent())
    (replay,) = validation.replays
    assert "this CPU lacks avx512_bf16" in str(replay.parity)
    assert replay.failure is None


def test_other_cpus_refuse_it_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    target = OpenVino()
    assert Precision.BF16 not in target.precisions
    with pytest.raises(UsageError, match="BF16 on CPUs with avx512_bf16 alone") as refused:
        target.dialect(Precision.BF16)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith("ask for fp32 or fp16 or int8")


def test_cpus_with_bf16_have_it_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"avx2", "avx512_bf16"}))
    target = OpenVino()
    assert target.dialect(Precision.BF16) is Dialect.FLOAT
    assert target.needed_cpu_flags(Precision.BF16) == ("avx512_bf16",)
    assert target.needed_cpu_flags(Precision.FP32) == ()
    assert Precision.BF16 in target.precisions
