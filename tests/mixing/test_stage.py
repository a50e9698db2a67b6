"""An export with a budget, from the failed gate's hint to the packed engine that answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import attrs
import numpy as np
import pytest

from exporter.artifact import Precision, Verdict
from exporter.builds.records import EngineRecord, Manifest
from exporter.builds.request import ExportRequest
from exporter.commands.validate import validate_build
from exporter.graph.files import save
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.pipeline import Outcome, export_model
from exporter.progress import Silent
from exporter.prove.certificate import Parity
from exporter.runtime import load
from exporter.search import times
from tests.search.engines import HURT, SIZE, Engines, hurt

ID = "ort-cpu.mixed"


@dataclass(frozen=True)
class Exports:
    """The same network without a budget, and with the one that the hint then named."""

    request: ExportRequest
    without: Outcome
    mixed: Outcome


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    folder = tmp_path_factory.mktemp("mixing")
    save(Engines.of(hurt(alone=True), folder).graph, folder / "net.onnx")
    request = ExportRequest(
        str(folder / "net.onnx"),
        targets=("ort-cpu",),
        precisions=(Precision.INT8,),
        measure=False,
        out=folder / "without",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(times, "ROUNDS", 1)
        without = export_model(request, Silent())
        named = re.search(r"--min-sqnr (\d+) ", " ".join(without.manifest.engines[0].notes))
        assert named, without.manifest.engines[0].notes
        asked = attrs.evolve(request, min_sqnr=float(named[1]), out=folder / "mixed")
        yield Exports(request, without, export_model(asked, Silent()))


def mixed(manifest: Manifest) -> EngineRecord:
    found = manifest.engine(ID)
    assert found is not None
    return found


def test_a_failed_gate_names_the_block_and_the_command(exports: Exports) -> None:
    engine = exports.without.manifest.engines[0]
    assert engine.rejected
    assert any(f"its error comes from {HURT}" in note for note in engine.notes)


def test_what_it_names_passes(exports: Exports) -> None:
    engine = mixed(exports.mixed.manifest)
    assert engine.failures == ()
    assert isinstance(engine.parity, Parity)
    assert engine.parity.passed
    assert engine.receipt.verdict is Verdict.FUSED
    search = engine.search
    assert search is not None
    assert HURT in search.kept
    assert search.found >= search.limit
    assert (search.searched, search.held_out) == (32, 32)
    assert search.front  # how many sets are worth choosing from hangs on measured times


def test_the_report_draws_the_front(exports: Exports) -> None:
    page = (exports.mixed.folder / "report.html").read_text(encoding="utf-8")
    assert f"The front of {ID}" in page
    without = (exports.without.folder / "report.html").read_text(encoding="utf-8")
    assert "The front of" not in without


def test_it_is_validated_with_its_blocks(exports: Exports) -> None:
    found = validate_build(exports.mixed.folder, blocks=True, threads=1, progress=Silent())
    assert not [failure for failure in found.failures if failure.startswith(ID)]
    parity = mixed(found.manifest).parity
    assert isinstance(parity, Parity)
    assert len(parity.blocks) == 1


@pytest.mark.parametrize("kind", ["bundle", "triton"])
def test_it_is_packed(exports: Exports, kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    request = PackRequest(exports.mixed.folder, format=kind, out=out)
    assert ID in pack(request, Silent()).engines
    if kind == "bundle":
        card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
        search = mixed(exports.mixed.manifest).search
        assert search is not None
        # Which set is fastest is measured: the hurt block alone, or with others around it.
        assert f"`{ID}` keeps {', '.join(search.kept)} in FP32: " in card
        engine = load(out, engine=ID)
        image = np.zeros((1, 3, SIZE, SIZE), np.float32)
        assert engine.run(image).shape == (1, 5)


def test_a_budget_out_of_reach_says_what_the_best_is(exports: Exports, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(exports.mixed.folder.parent / "cache"))
        patch.setattr(times, "ROUNDS", 1)
        request = attrs.evolve(
            exports.request, precisions=(Precision.MIXED,), min_sqnr=119.0, out=tmp_path / "far"
        )
        manifest = export_model(request, Silent()).manifest
    assert manifest.engines == ()
    (failed,) = manifest.failed_engines
    assert failed.stage == "search"
    assert re.search(r"the best one tried reaches \d\d\.\d dB .*relax the budget", failed.reason)
    assert manifest.failures == (f"{ID}: {failed.reason}",)
