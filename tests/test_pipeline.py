"""The main job on the real embedded model: every artifact, the gates, and reproducibility."""

from __future__ import annotations

import getpass
import hashlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
import pytest

from exporter import lowerings, pipeline
from exporter.artifact import Precision, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.records import EngineRecord
from exporter.builds.request import ExportRequest
from exporter.commands.benchmark import benchmark_build
from exporter.commands.validate import validate_build
from exporter.errors import InputError, UsageError
from exporter.graph.lower import Lowering, lower
from exporter.measure import serving
from exporter.measure.throughput import Throughput
from exporter.measure.timing import Latency
from exporter.pipeline import Outcome, export_model
from exporter.progress import Silent
from exporter.prove.certificate import Accuracy, Parity, Scope
from tests.exported_once import exported_anew

CPU_PAIRS = ("ort-cpu.fp32", "ort-cpu.fp16", "ort-cpu.int8")


def request(out: Path, **changes: Any) -> ExportRequest:
    return attrs.evolve(ExportRequest(targets=("ort-cpu",), out=out), **changes)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """resnet20-digits for ort-cpu in all three precisions, measured."""
    out = tmp_path_factory.mktemp("build") / "digits"
    return export_model(request(out, rounds=5, calibration_samples=64), Silent())


def engines(outcome: Outcome) -> dict[str, EngineRecord]:
    return {engine.id: engine for engine in outcome.manifest.engines}


def parity_of(engine: EngineRecord) -> Parity:
    assert isinstance(engine.parity, Parity)
    return engine.parity


def latency_of(engine: EngineRecord) -> Latency:
    assert isinstance(engine.latency, Latency)
    return engine.latency


def accuracy_of(engine: EngineRecord) -> Accuracy:
    assert engine.accuracy is not None
    return engine.accuracy


def test_every_engine_is_there_with_its_hashes(build: Outcome) -> None:
    assert build.manifest.failures == ()
    assert tuple(engines(build)) == CPU_PAIRS
    for engine in build.manifest.engines:
        for file in engine.files:
            content = (build.folder / file.path).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file.sha256
            assert len(content) == file.bytes
        assert (build.folder / engine.built_from).is_file()
    assert manifests.read(build.folder) == build.manifest
    assert (build.folder / "report.html").stat().st_size > 1000
    assert (build.folder / "report.json").is_file()
    assert not list(build.folder.rglob("*.rejected"))
    assert not list(build.folder.rglob(".*"))


def test_the_portable_files_are_standard_onnx(build: Outcome) -> None:
    for precision in ("fp32", "fp16"):
        model = onnx.load(build.folder / "onnx" / f"resnet20-digits.{precision}.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert {entry.domain for entry in model.opset_import} == {""}
        assert model.opset_import[0].version == build.manifest.model.opset == 20
        assert model.ir_version == 10
        assert [i.name for i in model.graph.input] == [build.manifest.model.input.name]


def test_the_fp16_engine_is_the_portable_file(build: Outcome) -> None:
    assert engines(build)["ort-cpu.fp16"].path == "onnx/resnet20-digits.fp16.onnx"
    assert engines(build)["ort-cpu.fp32"].path == "engines/ort-cpu/fp32.onnx"


def test_receipts_count_what_onnx_runtime_fused(build: Outcome) -> None:
    single, half, byte = (engines(build)[name].receipt for name in CPU_PAIRS)
    assert (single.verdict, single.convs, single.batchnorms_folded) == ("fused", 21, 21)
    assert (single.residual_adds, single.residual_adds_fused) == (9, 9)
    assert single.float_ops == 0
    assert half.verdict == half.expected == "partial"
    assert half.reason is not None
    assert "fp32" in half.reason
    assert (byte.verdict, byte.convs_quantized) == ("fused", 21)
    assert (byte.residual_adds_quantized, byte.float_ops) == (9, 0)
    assert tuple(b.name for b in single.blocks) == build.manifest.model.residual_blocks


def test_accuracy_is_that_of_eager(build: Outcome) -> None:
    for name in CPU_PAIRS:
        engine = engines(build)[name]
        accuracy = accuracy_of(engine)
        assert parity_of(engine).passed
        assert parity_of(engine).scope is Scope.ENGINE
        assert accuracy.samples == 540
        assert accuracy.top1_reference >= 0.99
        if name != "ort-cpu.int8":
            assert accuracy.top1 == accuracy.top1_reference
            assert accuracy.flips == 0
    int8 = accuracy_of(engines(build)["ort-cpu.int8"])
    assert abs(int8.top1 - int8.top1_reference) <= 0.002
    assert int8.flips <= 2


def test_latency_is_against_eager_in_the_same_run(build: Outcome) -> None:
    for engine in build.manifest.engines:
        latency = latency_of(engine)
        assert latency.baseline == "torch-eager"
        assert (latency.batch, latency.rounds) == (1, 5)
        assert 0 < latency.p50_ms <= latency.p90_ms <= latency.p99_ms
        low, high = latency.speedup.ci95
        assert low <= latency.speedup.median <= high
        assert engine.latency_by_batch == (latency,)


def test_goldens_are_what_eager_answers(build: Outcome) -> None:
    with np.load(build.folder / "golden.npz", allow_pickle=False) as arrays:
        assert arrays["inputs"].shape == (8, 3, 32, 32)
        assert arrays["outputs"].dtype == np.float32
        assert np.allclose(arrays["outputs"], arrays["outputs_float64"], atol=1e-4)


def test_validate_replays_the_goldens_and_tells_the_drift(build: Outcome) -> None:
    result = validate_build(build.folder, blocks=True, threads=None, progress=Silent())
    assert result.failures == ()
    assert all(isinstance(r.parity, Parity) and r.parity.passed for r in result.replays)
    for engine in result.manifest.engines:
        drift = parity_of(engine).blocks
        assert tuple(block.name for block in drift) == result.manifest.model.residual_blocks
        limit = {"fp32": 1e-5, "fp16": 1e-2, "int8": 0.2}[engine.precision]
        assert all(0 <= block.added_rel_l2 < limit for block in drift)
        assert all(0 <= block.built_up_rel_l2 < limit for block in drift)
    int8 = next(e for e in result.manifest.engines if e.precision == "int8")
    last = parity_of(int8).blocks[-1]
    # The head averages the last block's error out: the same size, not the same figure.
    assert last.built_up_rel_l2 / 10 < parity_of(int8).rel_l2 < last.built_up_rel_l2 * 3


def test_a_changed_engine_is_named(build: Outcome) -> None:
    path = build.folder / "engines" / "ort-cpu" / "fp32.onnx"
    original = path.read_bytes()
    try:
        path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        result = validate_build(build.folder, blocks=False, threads=1, progress=Silent())
    finally:
        path.write_bytes(original)
    (failure,) = result.failures
    assert "engines/ort-cpu/fp32.onnx is not the file that was validated" in failure


def test_throughput_goes_into_the_manifest_and_the_report(
    build: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "ROUND_S", 0.02)
    monkeypatch.setattr(serving, "HEATS", 1)
    loaded = BenchmarkRequest(
        build.folder, threads=1, rounds=5, throughput=True, cores=1, throughput_batches=(2,),
        max_p99=1e6,
    )  # fmt: skip
    found = benchmark_build(loaded, Silent())
    assert found.failures == ()
    kept = manifests.read(build.folder)
    assert kept == found.manifest
    measured = kept.throughput
    assert isinstance(measured, Throughput)
    assert (measured.cores, measured.callers, measured.max_p99_ms) == (1, 1, 1e6)
    engines = {point.engine.partition(".")[0] for point in measured.points}
    assert engines == {"ort-cpu"}  # the fastest of each runtime library
    (point,) = measured.points
    assert (point.processes, point.streams, point.threads, point.batch) == (1, 1, 1, 2)
    assert measured.best is point
    assert "Each layout under load" in (build.folder / "report.html").read_text()


def test_benchmark_refuses_other_weights_and_updates_the_manifest(build: Outcome) -> None:
    again = BenchmarkRequest(build.folder, batches=(1, 2), threads=1, rounds=5)
    with pytest.raises(UsageError, match="another hash"):
        benchmark_build(attrs.evolve(again, weights="random"), Silent())
    updated = benchmark_build(again, Silent())
    for engine in updated.manifest.engines:
        assert [entry.batch for entry in engine.latency_by_batch] == [1, 2]
        assert latency_of(engine).threads == 1
    # Whatever was measured before belongs to the machine and the minute of then.
    assert isinstance(updated.manifest.throughput, Skipped)


def test_two_builds_are_identical_and_name_no_machine(build: Outcome, tmp_path: Path) -> None:
    out = tmp_path / "quite" / "another"
    with exported_anew():
        outcome = export_model(request(out, measure=False, calibration_samples=64), Silent())
    assert outcome.manifest.failures == ()
    first, second = (
        {
            path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*.onnx")
        }
        for folder in (build.folder, out)
    )
    assert len(first) >= 4
    assert first == second
    forbidden = [str(out.parent), str(Path(pipeline.__file__).parent), str(Path.home())]
    # "root" and "vm" are found in any 100 MB of numbers: only telling names can be looked for.
    forbidden += [name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 4]
    for path in out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found = [text for text in forbidden if text.encode() in content]
            assert not found, f"{path.name} holds {found}"


def test_an_engine_that_misses_its_limit_is_rejected_and_the_others_are_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A wrong shortcut: the residual sum of one block is dropped from the FP16 graph alone.
    honest = lower

    def faulty(graph: Any, to: Lowering) -> Any:
        lowered, reports = honest(graph, to)
        if to.precision is Precision.FP16:
            add = next(node for node in lowered.graph if node.op_type == "Add")
            main = next(
                value
                for value in add.inputs
                if (producer := value and value.producer()) and producer.op_type == "Conv"
            )
            for node, index in tuple(add.outputs[0].uses()):
                node.replace_input_with(index, main)
            lowered.graph.remove(add, safe=True)
        return lowered, reports

    monkeypatch.setattr(lowerings, "lower", faulty)
    wanted = (Precision.FP32, Precision.FP16)
    outcome = export_model(request(tmp_path / "out", precisions=wanted, measure=False), Silent())
    assert len(outcome.manifest.failures) >= 1
    assert all(failure.startswith("ort-cpu.fp16: ") for failure in outcome.manifest.failures)
    assert any("parity: rel_l2" in failure for failure in outcome.manifest.failures)
    assert any("limit 0.005" in failure for failure in outcome.manifest.failures)
    single, half = outcome.manifest.engines
    assert parity_of(single).passed
    assert half.path.endswith(".rejected")
    assert (outcome.folder / half.path).is_file()
    assert outcome.manifest.failures == outcome.manifest.failures


def test_requests_that_cannot_be_carried_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        export_model(request(tmp_path / "out", data=tmp_path / "absent"), Silent())
    assert not (tmp_path / "out").exists()


class Stages(Silent):
    """Keeps the titles of what was begun."""

    def __init__(self) -> None:
        super().__init__()
        self.titles: list[str] = []

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        self.titles.append(title)
        yield lambda _steps: None


def test_a_layer_that_is_not_there_is_refused_once_the_graph_is_known(tmp_path: Path) -> None:
    stages = Stages()
    with pytest.raises(UsageError, match=r"'layer9'; did you mean layer"):
        export_model(request(tmp_path / "out", keep=("layer9",), measure=False), stages)
    assert stages.titles[-1] == "optimize"
    assert list(tmp_path.iterdir()) == []
