"""The causes in the engines of a build: none in healthy ones, what was kept in others."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.artifact import Precision, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.explain_request import ExplainRequest
from exporter.builds.request import ExportRequest
from exporter.commands.explain import Explanation
from exporter.commands.explain_error import ErrorExplanation
from exporter.commands.explaining import explain
from exporter.errors import UsageError
from exporter.pipeline import export_model
from exporter.progress import Silent
from exporter.targets import Cause

KEPT = "layer2.1"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = ExportRequest(
        targets=("ort-cpu",),
        precisions=(Precision.FP32, Precision.INT8),
        keep=(KEPT,),
        out=tmp_path_factory.mktemp("kept") / "digits",
        calibration_samples=8,
        samples=16,
        correction="none",
        bake_preprocess=True,
        measure=False,
    )
    return export_model(request, Silent()).folder


def test_what_was_kept_is_named_with_the_command_that_keeps_nothing(build: Path) -> None:
    found = explain(ExplainRequest(build, threads=1), Silent())
    assert isinstance(found, Explanation)
    single, byte = found.engines
    assert single.findings == ()
    assert not isinstance(byte.findings, Skipped)
    (finding,) = byte.findings
    assert finding.cause is Cause.KEPT
    assert "--keep" in finding.what
    assert KEPT in finding.what
    assert finding.milliseconds is not None
    assert finding.command.startswith("exporter export resnet20-digits --target ort-cpu")
    assert "--keep" not in finding.command
    (pair,) = found.pairs
    reasons = {block.name: block.reasons for block in pair.blocks}
    with_it = {name for name, causes in reasons.items() if causes == (Cause.KEPT,)}
    assert {KEPT} <= with_it <= {"layer2.0", KEPT, "layer2.2"}  # what converts is beside it
    assert set(reasons.values()) == {(), (Cause.KEPT,)}


def test_the_error_is_split_for_each_engine_in_8_bits(build: Path) -> None:
    found = explain(ExplainRequest(build, error=True, threads=1), Silent())
    assert isinstance(found, ErrorExplanation)
    (engine,) = found.engines
    assert engine.id == "ort-cpu.int8"
    assert len(engine.blocks) == 11  # stem and head
    assert not isinstance(engine.drift, Skipped)
    units = {block.name for block in engine.blocks}
    assert {block.name for block in engine.drift} == units - {"stem", "head"}
    assert [block.name for block in engine.blocks if not block.parts] == ["stem"]  # baked
    assert [b.name for b in engine.blocks if b.name != "head"][-1] == KEPT  # it adds the least
    assert f"--keep {KEPT},{engine.blocks[0].name}" in engine.command
    assert manifests.read(build).request.keep == (KEPT,)  # nothing was written


def test_an_error_of_what_is_not_in_8_bits_is_refused(build: Path) -> None:
    with pytest.raises(UsageError, match="validate --blocks"):
        explain(ExplainRequest(build, error=True, engine="ort-cpu.fp32"), Silent())
    with pytest.raises(UsageError, match="unknown engine"):
        explain(ExplainRequest(build, error=True, engine="ort-cpu.int4"), Silent())
