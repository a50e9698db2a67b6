"""An export with a budget on OpenVINO: what is kept is in BF16 where the CPU computes that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import numpy as np
import openvino
import pytest

from exporter import host
from exporter.artifact import ElementType, Precision, Verdict
from exporter.builds import manifest as manifests
from exporter.builds.records import EngineRecord, Manifest
from exporter.builds.request import ExportRequest
from exporter.commands.validate import validate_build
from exporter.errors import BuildError
from exporter.graph.files import save
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.pipeline import Outcome, export_model
from exporter.progress import Silent
from exporter.prove.certificate import Parity
from exporter.runtime import NoEngineError, load
from exporter.runtime.machine import BF16_FLAG
from exporter.targets import get_target
from tests.search.engines import HURT, SIZE, Engines, Times, hurt

ID = "openvino.mixed"
here = pytest.mark.skipif(
    BF16_FLAG not in host.cpu_flags(), reason=f"this CPU computes no BF16 ({BF16_FLAG})"
)


@contextmanager
def given_times(*_: object) -> Iterator[Times]:
    """Costs that are given: which set is chosen does not hang on this machine's load."""
    yield Times()


@pytest.fixture(scope="module")
def request_on_openvino(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExportRequest]:
    folder = tmp_path_factory.mktemp("mixing")
    save(Engines.of(hurt(alone=True), folder).graph, folder / "net.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr("exporter.mixing.space.PairedTimes", given_times)
        yield ExportRequest(
            str(folder / "net.onnx"),
            targets=("openvino",),
            precisions=(Precision.MIXED,),
            measure=False,
            min_sqnr=25.0,
            out=folder / "mixed",
        )


@pytest.fixture(scope="module")
def exported(request_on_openvino: ExportRequest) -> Outcome:
    return export_model(request_on_openvino, Silent())


def mixed(manifest: Manifest) -> EngineRecord:
    found = manifest.engine(ID)
    assert found is not None
    return found


@here
def test_what_is_kept_is_in_bf16_and_keeps_the_budget(exported: Outcome) -> None:
    engine = mixed(exported.manifest)
    assert engine.failures == ()
    assert isinstance(engine.parity, Parity)
    assert engine.parity.passed
    search = engine.search
    assert search is not None
    assert HURT in search.kept
    assert search.kept_in is Precision.BF16
    assert search.found >= search.limit
    assert engine.receipt.verdict is Verdict.FUSED
    assert engine.receipt.convs_by_type[ElementType.BF16] >= 3
    assert ElementType.FP32 not in engine.receipt.convs_by_type
    assert engine.requires["cpu_flags"] == [BF16_FLAG]


@here
def test_report_and_notes_name_the_type(exported: Outcome) -> None:
    page = (exported.folder / "report.html").read_text(encoding="utf-8")
    assert " in BF16 for <code>--min-sqnr" in page
    assert any(" in BF16: " in note for note in mixed(exported.manifest).notes)


@here
def test_it_is_validated_with_its_blocks(exported: Outcome) -> None:
    found = validate_build(exported.folder, blocks=True, threads=1, progress=Silent())
    assert not [failure for failure in found.failures if failure.startswith(ID)]
    parity = mixed(found.manifest).parity
    assert isinstance(parity, Parity)
    assert len(parity.blocks) == 1


@here
def test_a_cpu_without_bf16_refuses_it(
    exported: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack(PackRequest(exported.folder, out=tmp_path / "bundle"), Silent()).path
    card = (packed / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"`{ID}` keeps " in card
    assert " in BF16: " in card
    image = np.zeros((1, 3, SIZE, SIZE), np.float32)
    with load(packed) as engine:
        assert engine.run(image).shape == (1, 5)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("exporter.runtime.choice.cpu_flags", lambda: frozenset({"avx2"}))
        with pytest.raises(NoEngineError, match="this CPU lacks avx512_bf16"):
            load(packed)
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(NoEngineError, match="no BF16 arithmetic on this CPU"):
        load(packed)
    path = exported.folder / mixed(exported.manifest).path
    with pytest.raises(BuildError, match="no BF16 arithmetic on this CPU"):
        get_target("openvino").open(path, 1)


@here
def test_a_budget_beyond_bf16_is_kept_in_fp32(
    request_on_openvino: ExportRequest, tmp_path: Path
) -> None:
    # The best set has 40.2 dB in BF16, and 42.2 dB in FP32.
    request = attrs.evolve(request_on_openvino, min_sqnr=41.2, out=tmp_path / "x")
    engine = mixed(export_model(request, Silent()).manifest)
    assert engine.failures == ()
    assert engine.receipt.verdict is Verdict.FUSED
    assert engine.search is not None
    assert engine.search.kept_in is Precision.FP32
    assert engine.search.found >= 41.2
    assert ElementType.BF16 not in engine.receipt.convs_by_type
    assert engine.requires["cpu_flags"] == []


def test_elsewhere_it_is_in_fp32(
    request_on_openvino: ExportRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = host.cpu_flags() - {BF16_FLAG}
    monkeypatch.setattr(host, "cpu_flags", lambda: flags)
    engine = mixed(
        export_model(attrs.evolve(request_on_openvino, out=tmp_path / "x"), Silent()).manifest
    )
    assert engine.failures == ()
    assert engine.search is not None
    assert engine.search.kept_in is Precision.FP32
    assert ElementType.BF16 not in engine.receipt.convs_by_type
    assert engine.receipt.convs_by_type[ElementType.FP32] >= 3
    assert engine.requires["cpu_flags"] == []


def test_a_manifest_of_before_reads_as_fp32(exported: Outcome, tmp_path: Path) -> None:
    path = exported.folder / "manifest.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    del written["engines"][0]["search"]["kept_in"]
    (tmp_path / "manifest.json").write_text(json.dumps(written), encoding="utf-8")
    search = mixed(manifests.read(tmp_path)).search
    assert search is not None
    assert search.kept_in is Precision.FP32
    assert " in FP32: " in search.in_words
