"""What ONNX Runtime's quantizer writes by default, on TensorRT-RTX: what it refuses, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from onnxruntime.quantization import QuantFormat, QuantType

from exporter.artifact import Dialect, Skipped, Verdict
from exporter.builds.explain_request import ExplainRequest
from exporter.commands.explain_file import ExplainedFile, explain_file
from exporter.commands.own_build import OwnBuild
from exporter.graph.files import save
from exporter.progress import Silent
from exporter.targets import Cause
from tests.causes import planted

pytest.importorskip("tensorrt_rtx")
TARGET = "tensorrt-rtx:sm89"
SYMMETRIC: dict[str, Any] = {
    "activation_type": QuantType.QInt8,
    "extra_options": {"ActivationSymmetric": True},
}


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return planted.network()


def explained(graph: ir.Model, folder: Path, *, own_build: bool = False) -> ExplainedFile:
    path = folder / "given.onnx"
    save(graph, path)
    return explain_file(ExplainRequest(path, target=TARGET, own_build=own_build), Silent())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation_type": QuantType.QInt8},
        {"quant_format": QuantFormat.QOperator},
        {"weight_type": QuantType.QUInt8},
    ],
)
def test_codes_that_it_does_not_take_are_the_cause(
    network: ir.Model, tmp_path: Path, options: dict[str, Any]
) -> None:
    found = explained(planted.theirs(network, tmp_path, **options), tmp_path)
    assert [finding.cause for finding in found.engine.findings] == [Cause.CODES_NOT_TAKEN]
    (finding,) = found.engine.findings
    weights = " and 8 of 8 weights" if "weight_type" in options else ""
    assert finding.what.startswith(f"14 of 14 activations{weights} are in unsigned codes or have")
    assert "ActivationSymmetric" in finding.remedy
    assert found.engine.receipt.verdict is Verdict.UNVERIFIED
    assert "refuses node" in str(found.engine.receipt.reason)
    assert found.notes[-1].startswith(f"{TARGET} is given 8 int32 biases as the float32 numbers")


def test_what_stops_it_comes_before_decibels_and_our_own_build_is_told(
    network: ir.Model, tmp_path: Path
) -> None:
    options = {"activation_type": QuantType.QInt8, "per_channel": False}
    found = explained(planted.theirs(network, tmp_path, **options), tmp_path, own_build=True)
    causes = [finding.cause for finding in found.engine.findings]
    assert causes == [Cause.CODES_NOT_TAKEN, Cause.PER_TENSOR_WEIGHTS]
    assert isinstance(found.own_build, OwnBuild)
    assert found.own_build.given_ms is None
    assert "predicted for the target's GPU" in found.own_build.in_words


def test_symmetric_codes_are_built_with_their_biases_in_float(
    network: ir.Model, tmp_path: Path
) -> None:
    found = explained(planted.theirs(network, tmp_path, **SYMMETRIC), tmp_path)
    assert found.engine.receipt.convs_quantized == 7
    (note,) = found.notes
    assert "8 int32 biases" in note
    assert Cause.CODES_NOT_TAKEN not in {finding.cause for finding in found.engine.findings}


def test_our_own_graph_has_nothing_to_fix(network: ir.Model, tmp_path: Path) -> None:
    found = explained(planted.ours(network, Dialect.S8_SYMMETRIC), tmp_path)
    assert (found.engine.findings, found.notes) == ((), ())
    assert isinstance(found.engine.profile, Skipped)


def test_what_is_quantized_while_it_runs_is_refused_with_the_cause(
    network: ir.Model, tmp_path: Path
) -> None:
    found = explained(planted.at_run_time(network, tmp_path), tmp_path)
    assert [finding.cause for finding in found.engine.findings] == [Cause.RUN_TIME_RANGES]
    assert "[DynamicQuantizeLinear]" in str(found.engine.receipt.reason)
