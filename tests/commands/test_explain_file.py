"""`exporter explain FILE.onnx --target TARGET`, as a user types it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import onnx
import pytest
from onnxruntime.quantization import QuantFormat
from rich.console import Console

from exporter.artifact import Dialect, Precision, Skipped, Verdict
from exporter.builds.codec import structure
from exporter.builds.explain_request import ExplainRequest
from exporter.causes.examine import Examined
from exporter.causes.finding import Finding
from exporter.cli import main
from exporter.commands.explain_file import ExplainedFile, explain_file, render
from exporter.commands.own_build import OwnBuild
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.models.onnx_file import load_onnx
from exporter.progress import Silent
from exporter.targets import Cause
from tests import manifests
from tests.causes import planted
from tests.graphs import relative_error, run


@pytest.fixture(autouse=True)
def three_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few profiled inferences as there may be."""
    monkeypatch.setattr("exporter.causes.examine.BUDGET_S", 0.0)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network in INT8 with one convolution left in float."""
    graph = planted.ours(planted.network())
    planted.float_convolution(graph)
    path = tmp_path_factory.mktemp("spoilt") / "spoilt.onnx"
    save(graph, path)
    return path


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that a command ends with, and exit code 2."""
    with pytest.raises(SystemExit) as exit_:
        main(["explain", *map(str, words), "--quiet"])
    printed = capsys.readouterr()
    assert exit_.value.code == 2
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


def test_our_own_build_is_measured_beside_it_and_the_float_network_is_written(
    spoilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.commands.own_build.ROUNDS", 5)
    kept = tmp_path / "float.onnx"
    request = ExplainRequest(spoilt, target="ort-cpu", save_float=kept, threads=1)
    explained = explain_file(request, Silent())
    own = explained.own_build
    assert isinstance(own, OwnBuild)
    assert own.receipt.verdict is Verdict.FUSED
    assert explained.engine.receipt.verdict is Verdict.PARTIAL
    assert own.given_ms
    assert own.own_ms
    assert "medians of one interleaved run" in own.in_words
    assert load_onnx(kept).graph is not None
    given, network = (onnx.load(path).SerializeToString() for path in (spoilt, kept))
    assert relative_error(run(given, planted.IMAGES), run(network, planted.IMAGES)) < 0.1
    (finding,) = explained.engine.findings
    assert finding.command == (
        f"exporter export {kept} --target ort-cpu --precision int8 --data IMAGES"
    )


def test_json_holds_it_all(spoilt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_words = ["explain", str(spoilt), "--target", "ort-cpu", "--no-own-build", "--json", "-q"]
    with pytest.raises(SystemExit) as exit_:
        main(main_words)
    assert exit_.value.code == 0
    found = structure(json.loads(capsys.readouterr().out), ExplainedFile, "printed")
    assert found.precision is Precision.INT8
    (finding,) = found.engine.findings
    assert finding.cause is Cause.FLOAT_LAYER
    assert finding.milliseconds is not None
    assert "--save-float" in finding.command


def test_what_is_no_onnx_file_is_refused_in_one_line(
    spoilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "engine.plan"
    plan.write_bytes(b"ptrt" + bytes(range(256)))
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    target = ("--target", "ort-cpu")
    assert "is not an ONNX file, or it is truncated" in refused(capsys, plan, *target)
    assert "is not an ONNX model: it has no graph" in refused(capsys, empty, *target)
    assert "no such file" in refused(capsys, tmp_path / "absent.onnx", *target)
    assert "is not a file" in refused(capsys, tmp_path, *target)
    assert "unknown target 'ort-gpu'" in refused(capsys, spoilt, "--target", "ort-gpu")


def test_options_of_the_other_explanations_are_refused(
    spoilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = ("--target", "ort-cpu")
    assert "--error is about builds" in refused(capsys, spoilt, "--error", *target)
    assert "--engine is about builds" in refused(capsys, spoilt, "--engine", "x", *target)
    assert "--save-float is about an ONNX file" in refused(
        capsys, tmp_path, "--save-float", tmp_path / "f.onnx"
    )
    assert "--no-own-build is about an ONNX file" in refused(capsys, tmp_path, "--no-own-build")
    assert "is a file: say with --target which runtime loads it" in refused(capsys, spoilt)


def test_a_precision_that_the_target_has_not_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, _ = lower(planted.network(), Lowering(Precision.BF16, Dialect.FLOAT))
    save(graph, tmp_path / "bf16.onnx")
    line = refused(capsys, tmp_path / "bf16.onnx", "--target", "ort-cpu")
    assert "has no BF16 convolution" in line


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with QLinear operators, as ONNX Runtime's quantizer writes it."""
    folder = tmp_path_factory.mktemp("operators")
    path = folder / "operators.onnx"
    format_ = {"quant_format": QuantFormat.QOperator}
    save(planted.theirs(planted.network(), folder, **format_), path)
    return path


@pytest.mark.parametrize(("target", "notes"), [("ort-cpu", 0), ("openvino", 1)])
@pytest.mark.parametrize("opset", [11, 21])
def test_qlinear_operators_are_loaded_and_said_where_q_dq_stand_for_them(
    operators: Path, tmp_path: Path, target: str, notes: int, opset: int
) -> None:
    model = onnx.load(operators)
    model.opset_import.sort(key=lambda one: one.domain, reverse=True)  # any order will do
    model.opset_import[-1].version = opset
    onnx.save(model, tmp_path / "given.onnx")
    request = ExplainRequest(tmp_path / "given.onnx", target=target, own_build=False, threads=1)
    explained = explain_file(request, Silent())
    assert explained.precision is Precision.INT8
    assert explained.engine.findings == ()
    assert explained.engine.receipt.verdict is Verdict.FUSED
    assert explained.engine.receipt.convs_quantized == 7
    assert len(explained.notes) == notes
    assert all("12 QLinear operators" in note for note in explained.notes)


def test_the_float_network_behind_qlinear_operators_answers_alike(
    operators: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "float.onnx"
    request = ExplainRequest(operators, target="ort-cpu", save_float=kept, own_build=False)
    explain_file(request, Silent())
    given, network = (onnx.load(path).SerializeToString() for path in (operators, kept))
    assert relative_error(run(given, planted.IMAGES), run(network, planted.IMAGES)) < 0.1
    assert load_onnx(kept).graph is not None


def test_export_refuses_qlinear_operators_and_says_what_to_give(
    operators: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["export", str(operators), "--quiet"])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "give the float32 model, not a quantized one" in line
    assert f"exporter explain {operators} --target T --save-float F.onnx" in line


def test_an_operator_of_a_runtime_without_a_known_form_is_refused_by_name(
    operators: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(operators)
    next(node for node in model.graph.node if node.op_type == "QLinearAdd").op_type = "QLinearXor"
    onnx.save(model, tmp_path / "unknown.onnx")
    line = refused(capsys, tmp_path / "unknown.onnx", "--target", "ort-cpu")
    assert "'layer1.add_quant' is 'com.microsoft.QLinearXor'" in line


def test_a_healthy_engine_has_nothing_to_fix() -> None:
    """Words alone: nothing is run."""
    receipt = manifests.resnet50().engines[0].receipt
    finding = Finding(Cause.CAST, "2 casts", "take them out", "exporter export", ("a",), 1.5, None)
    for findings, said in (((), "nothing to fix"), ((finding,), "1. cast in the middle: at most")):
        examined = Examined(receipt, Skipped("not here"), findings)
        explained = ExplainedFile("f.onnx", "ort-cpu", Precision.INT8, examined, Skipped("no"))
        stream = io.StringIO()
        render(explained, Console(file=stream, width=200))
        assert said in stream.getvalue()
