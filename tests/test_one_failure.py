"""One failure costs one thing: an engine that breaks at any step, a report, a ceiling."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import onnx
import pytest

from exporter import lowerings, pipeline
from exporter.artifact import Precision, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.request import ExportRequest
from exporter.commands.benchmark import benchmark_build
from exporter.commands.validate import validate_build
from exporter.errors import BuildError, InputError, Interrupted
from exporter.graph.lower import lower
from exporter.measure import ceilings
from exporter.measure.process import WorkerProcess
from exporter.measure.timing import Latency
from exporter.pipeline import Outcome, export_model
from exporter.progress import Silent
from exporter.prove.certificate import Parity
from exporter.targets import Array, get_target
from exporter.targets.openvino.cpu import OpenVino
from exporter.targets.ort.cpu import OrtCpu

FP32, INT8 = Precision.FP32, Precision.INT8


Export = partial[Outcome]


def export_from(source: str, out: Path, **changes: Any) -> Outcome:
    base = ExportRequest(
        source, targets=("ort-cpu", "openvino"), precisions=(FP32,), out=out, samples=16,
        measure=False,
    )  # fmt: skip
    return export_model(attrs.evolve(base, **changes), Silent())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "digits"
    outcome = export_from("resnet20-digits", folder, measure=True, rounds=5)
    assert outcome.manifest.failures == ()
    return outcome.folder


@pytest.fixture
def export(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Exports the ONNX file of the whole build: PyTorch's own export takes most of the time."""
    given = tmp_path_factory.mktemp("given") / "resnet20-digits.onnx"
    shutil.copy(whole / "onnx" / "resnet20-digits.fp32.onnx", given)
    return partial(export_from, str(given))


@pytest.fixture
def build(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "build"))


def release_files(folder: Path) -> set[str]:
    """What a runtime could take for a released engine."""
    engines = folder / "engines"
    files = (path for path in engines.rglob("*") if path.is_file())
    return {p.relative_to(engines).as_posix() for p in files if not p.name.endswith(".rejected")}


def test_an_engine_that_does_not_build_is_in_the_manifest_with_the_reason(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise BuildError("openvino does not build it")

    monkeypatch.setattr(OpenVino, "build", refuse)
    outcome = export(tmp_path / "out")
    (engine,) = outcome.manifest.engines
    assert engine.passed
    (failed,) = outcome.manifest.failed_engines
    assert (failed.id, failed.stage) == ("openvino.fp32", "build")
    assert outcome.manifest.failures == ("openvino.fp32: openvino does not build it",)
    assert release_files(outcome.folder) == {"ort-cpu/fp32.onnx"}
    assert manifests.read(outcome.folder) == outcome.manifest


def test_an_engine_that_does_not_open_is_under_no_release_name(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise BuildError("openvino does not load it")

    monkeypatch.setattr(OpenVino, "open", refuse)
    outcome = export(tmp_path / "out")
    whole, broken = outcome.manifest.engines
    assert whole.passed
    assert broken.rejected
    assert broken.parity == Skipped("it gave no answers: openvino does not load it")
    assert broken.failures == ("openvino does not load it",)
    assert release_files(outcome.folder) == {"ort-cpu/fp32.onnx"}
    assert all((outcome.folder / file.path).is_file() for file in broken.files)


def test_a_lowering_that_fails_costs_the_engines_that_need_it(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise BuildError("tensor x is not finite")

    monkeypatch.setattr(lowerings, "calibrate", refuse)
    outcome = export(tmp_path / "out", precisions=(FP32, INT8), calibration_samples=16)
    assert [engine.id for engine in outcome.manifest.engines] == ["ort-cpu.fp32", "openvino.fp32"]
    assert all(engine.passed for engine in outcome.manifest.engines)
    failed = outcome.manifest.failed_engines
    assert [(one.id, one.stage) for one in failed] == [
        ("ort-cpu.int8", "lower"), ("openvino.int8", "lower"),
    ]  # fmt: skip


def test_an_engine_whose_process_dies_while_it_is_measured_is_rejected_alone(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = WorkerProcess.ask

    def dying(worker: WorkerProcess, message: Mapping[str, Any]) -> dict[str, Any]:
        if worker.name == "openvino.fp32" and "time" in message:
            os.kill(worker.pid, signal.SIGKILL)
        return ask(worker, message)

    monkeypatch.setattr(WorkerProcess, "ask", dying)
    outcome = export(tmp_path / "out", measure=True, rounds=5)
    whole, dead = outcome.manifest.engines
    assert whole.passed
    assert isinstance(whole.latency, Latency)
    assert isinstance(dead.latency, Skipped)
    assert "died (SIGKILL" in dead.latency.skipped
    assert "died (SIGKILL" in dead.failures[0]
    assert dead.rejected
    assert outcome.manifest.fastest == whole
    assert release_files(outcome.folder) == {"ort-cpu/fp32.onnx"}


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (InputError("cannot write report.html: no space"), "cannot write report.html: no space"),
        (RuntimeError("a slip in a template"), "RuntimeError('a slip in a template')"),
    ],
)
def test_a_report_or_a_ceiling_that_fails_loses_no_engine(
    export: Export, raised: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise raised

    def no_library(*_: Any) -> Any:
        raise ModuleNotFoundError("No module named 'openvino'")

    monkeypatch.setattr(pipeline, "write_report", broken)
    monkeypatch.setattr(ceilings, "_fastest_s", no_library)
    outcome = export(tmp_path / "out", targets=("ort-cpu",), measure=True, rounds=5)
    (engine,) = outcome.manifest.engines
    assert engine.passed
    assert isinstance(engine.latency, Latency)
    found = outcome.manifest.host.ceilings
    assert isinstance(found, Skipped)
    assert "No module named 'openvino'" in found.skipped
    assert outcome.manifest.failures == (f"report: {told}",)
    assert manifests.read(outcome.folder) == outcome.manifest


def test_fused_and_plain_graphs_of_a_precision_are_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Baked, none is a portable file; and where the engine is rejected, none is its engine."""

    def wrong(session: Any, batch: Array) -> Array:
        return 0 * run(session, batch)

    session_class = type(OrtCpu().open(tmp_model(tmp_path), 1))
    run = session_class.run
    monkeypatch.setattr(session_class, "run", wrong)
    outcome = export_from("resnet20-digits", tmp_path / "out", bake_preprocess=True)
    monkeypatch.undo()
    fused, plain = outcome.manifest.engines
    assert fused.rejected
    assert fused.built_from != plain.built_from
    operators = [
        {node.op_type for node in onnx.load(outcome.folder / engine.built_from).graph.node}
        for engine in (fused, plain)
    ]
    assert "FusedConv" in operators[0]
    assert "FusedConv" not in operators[1]


def tmp_model(folder: Path) -> Path:
    text = """<ir_version: 10, opset_import: ["" : 20]>
        network (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"""
    path = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def test_validate_tells_of_every_engine(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise BuildError("openvino does not load it")

    monkeypatch.setattr(OpenVino, "open", refuse)
    found = validate_build(build, blocks=False, threads=1, progress=Silent())
    assert [replay.failure for replay in found.replays] == [None, "openvino does not load it"]
    assert isinstance(found.replays[0].parity, Parity)
    assert found.failures == ("openvino.fp32: openvino does not load it",)


def test_a_build_of_which_nothing_can_be_checked_does_not_pass(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for target in (OrtCpu, OpenVino):
        monkeypatch.setattr(target, "runs_here", lambda _: Skipped("another CPU"))
    found = validate_build(build, blocks=False, threads=1, progress=Silent())
    assert [replay.failure for replay in found.replays] == [None, None]
    assert found.failures[0].startswith("no engine of this build could be checked here")


def test_benchmark_keeps_no_figure_of_another_machine(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenVino, "runs_here", lambda _: Skipped("not on this machine"))
    found = benchmark_build(BenchmarkRequest(build, threads=1, rounds=5), Silent())
    here, elsewhere = found.manifest.engines
    assert isinstance(here.latency, Latency)
    assert elsewhere.latency == elsewhere.profile == Skipped("not on this machine")
    assert elsewhere.latency_by_batch == ()
    assert found.manifest.fastest == here
    assert manifests.read(build) == found.manifest


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_goes_through_every_command(batch: int, build: Path, tmp_path: Path) -> None:
    model = onnx.load(build / "onnx" / "resnet20-digits.fp32.onnx")
    for value in (*model.graph.input, *model.graph.output):
        dim = value.type.tensor_type.shape.dim[0]
        dim.ClearField("dim_param")
        dim.dim_value = batch
    del model.graph.value_info[:]
    given = tmp_path / "fixed.onnx"
    onnx.save(model, given)
    outcome = export_from(str(given), tmp_path / "out", targets=("ort-cpu",))
    assert outcome.manifest.failures == ()
    found = validate_build(outcome.folder, blocks=True, threads=1, progress=Silent())
    assert found.failures == ()
    (engine,) = found.manifest.engines
    assert isinstance(engine.parity, Parity)
    assert len(engine.parity.blocks) == 9


def test_targets_are_the_real_ones() -> None:
    """What is patched above is what the pipeline uses."""
    assert type(get_target("openvino")) is OpenVino
    assert type(get_target("ort-cpu")) is OrtCpu


@pytest.mark.parametrize("there", [False, True], ids=["new folder", "a build is there"])
def test_an_interruption_keeps_what_was_proved(
    export: Export, there: bool, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "build"
    if there:
        shutil.copytree(whole, out)
    before = contents(out)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "measure_engines", stop)
    with pytest.raises(Interrupted, match=r"openvino.fp32\) is kept in .*build.interrupted"):
        export(out, measure=True)
    assert contents(out) == before
    aside = tmp_path / "build.interrupted"
    kept = manifests.read(aside)
    assert [engine.id for engine in kept.engines] == ["ort-cpu.fp32", "openvino.fp32"]
    assert all(engine.passed for engine in kept.engines)
    assert (aside / "report.html").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    measured = benchmark_build(
        BenchmarkRequest(aside, model=str(export.args[0]), rounds=5, threads=1), Silent()
    )
    assert all(isinstance(engine.latency, Latency) for engine in measured.manifest.engines)


def test_what_was_not_proved_when_it_was_interrupted_is_gone(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove = pipeline.prove

    def stop_at_the_second(run: Any, engine: Any, *rest: Any, **more: Any) -> Any:
        if engine.id == "openvino.fp32":
            raise KeyboardInterrupt
        return prove(run, engine, *rest, **more)

    monkeypatch.setattr(pipeline, "prove", stop_at_the_second)
    with pytest.raises(Interrupted):
        export(tmp_path / "build")
    aside = tmp_path / "build.interrupted"
    kept = manifests.read(aside)
    assert [engine.id for engine in kept.engines] == ["ort-cpu.fp32"]
    assert [engine.id for engine in kept.failed_engines] == ["openvino.fp32"]
    assert release_files(aside) == {"ort-cpu/fp32.onnx"}
    assert validate_build(aside, blocks=False, threads=1, progress=Silent()).failures == ()


def test_an_interruption_before_anything_was_proved_leaves_nothing(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "prove", stop)
    with pytest.raises(KeyboardInterrupt) as raised:
        export(tmp_path / "build")
    assert not isinstance(raised.value, Interrupted)
    assert list(tmp_path.iterdir()) == []


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_graph_without_an_fp16_form_costs_the_fp16_file_alone(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = lower

    def refuse(graph: Any, to: Any) -> Any:
        if to.precision is Precision.FP16:
            raise BuildError("the optimized graph is not valid ONNX: a type")
        return given(graph, to)

    monkeypatch.setattr(lowerings, "lower", refuse)
    outcome = export(tmp_path / "out", precisions=(FP32, Precision.FP16), targets=("ort-cpu",))
    assert [engine.id for engine in outcome.manifest.engines if engine.passed] == ["ort-cpu.fp32"]
    assert [failed.id for failed in outcome.manifest.failed_engines] == ["ort-cpu.fp16"]
    assert [path.name for path in (outcome.folder / "onnx").iterdir()] == [
        "resnet20-digits.fp32.onnx"
    ]
