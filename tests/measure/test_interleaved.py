"""Latency: the processes of a run, on engines that are real. No test asserts how fast they are."""

from __future__ import annotations

import importlib
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import psutil
import pytest
import torch

from exporter.artifact import Skipped, TensorSpec
from exporter.errors import BuildError, UsageError
from exporter.measure import worker as measure_worker
from exporter.measure.interleaved import (
    EagerBaseline,
    EngineToMeasure,
    OnnxBaseline,
    Results,
    measure,
)
from exporter.measure.process import WorkerProcess
from exporter.measure.timing import Conditions, Latency
from exporter.progress import Silent

CONDITIONS = Conditions(threads=1, rounds=5, seed=3, batches=(1, 4))
INPUT = TensorSpec("x", "float32", ("N", 3, 8, 8))
GRAPH = """
    <ir_version: 10, opset_import: ["" : 20]>
    network (float[N,3,8,8] x) => (float[N,3,1,1] y) {
        r = Relu(x)
        y = GlobalAveragePool(r)
    }
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "fp32.onnx"
    onnx.save(onnx.parser.parse_model(GRAPH), path)
    return path


def eager() -> EagerBaseline:
    return EagerBaseline(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()), INPUT)


def run(engines: list[EngineToMeasure], baseline: EagerBaseline | OnnxBaseline) -> Results:
    return measure(engines, baseline, CONDITIONS, Silent()).latencies


@pytest.fixture(autouse=True)
def _no_process_stays_behind() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


# --- statistics ---------------------------------------------------------------------------------


def test_a_failure_is_told_in_one_line_and_ends_the_worker(engine: Path) -> None:
    job = {
        "kind": "engine",
        "target": "ort-cpu",
        "path": str(engine),
        "threads": 1,
        "shape": [3, 8, 8],
        "dtype": "float64",
        "seed": 0,
    }
    requests = [job, {"warm_up": 1}, {"time": 1, "discard": 0}]
    replies = io.StringIO()
    measure_worker.serve(io.StringIO("\n".join(map(json.dumps, requests))), replies)
    first, second = replies.getvalue().splitlines()
    assert json.loads(first) == {"ready": True}
    told = json.loads(second)
    assert "Unexpected input data type" in told["error"]
    assert told["unloadable"] is False


def test_a_round_before_the_warm_up_is_an_error(engine: Path) -> None:
    job = {"kind": "onnx", "path": str(engine), "threads": 1}
    requests = [job, {"time": 1, "discard": 0}]
    replies = io.StringIO()
    measure_worker.serve(io.StringIO("\n".join(map(json.dumps, requests))), replies)
    assert "before the warm-up" in replies.getvalue()


# --- real processes -----------------------------------------------------------------------------


def test_engines_are_measured_against_eager(engine: Path) -> None:
    engines = [EngineToMeasure(name, "ort-cpu", engine) for name in ("ort-cpu.fp32", "other:1")]
    results = run(engines, eager())
    assert list(results) == ["ort-cpu.fp32", "other:1"]
    for by_batch in results.values():
        assert list(by_batch) == [1, 4]
        for batch, latency in by_batch.items():
            assert isinstance(latency, Latency)
            assert (latency.batch, latency.threads, latency.rounds) == (batch, 1, 5)
            assert latency.baseline == "torch-eager"
            assert latency.warmup >= 6
            assert 0 < latency.p50_ms <= latency.p90_ms <= latency.p99_ms
            assert latency.eager_p50_ms > 0
            low, high = latency.speedup.ci95
            assert 0 < low <= latency.speedup.median <= high


def test_an_onnx_file_is_the_baseline_of_itself(engine: Path) -> None:
    fixed = OnnxBaseline(engine.read_bytes(), TensorSpec("x", "float32", (4, 3, 8, 8)))
    by_batch = run([EngineToMeasure("ort-cpu.fp32", "ort-cpu", engine)], fixed)["ort-cpu.fp32"]
    assert by_batch[1] == Skipped("the model takes batches of 4 only")
    latency = by_batch[4]
    assert isinstance(latency, Latency)
    assert latency.baseline == "onnxruntime-as-given"


def test_nothing_to_measure_starts_no_process() -> None:
    assert run([], eager()) == {}


@pytest.mark.parametrize(
    ("batches", "threads", "rounds"), [((), 1, 5), ((0,), 1, 5), ((1,), 0, 5), ((1,), 1, 0)]
)
def test_counts_below_one_are_refused(batches: tuple[int, ...], threads: int, rounds: int) -> None:
    with pytest.raises(UsageError, match="must be 1 or more"):
        measure([], eager(), Conditions(threads, rounds, 0, batches), Silent())


def test_a_module_that_cannot_be_pickled_is_skipped(engine: Path) -> None:
    module = torch.nn.Identity()
    module.lock = threading.Lock()  # type: ignore[assignment]
    engines = [EngineToMeasure("ort-cpu.fp32", "ort-cpu", engine)]
    skipped = run(engines, EagerBaseline(module, INPUT))["ort-cpu.fp32"]
    assert list(skipped) == [1, 4]
    reason = skipped[1]
    assert isinstance(reason, Skipped)
    assert "cannot be sent to a process of its own" in reason.skipped
    assert "lock" in reason.skipped


def test_a_class_that_only_this_program_has_is_sent_by_value(engine: Path) -> None:
    class Own(torch.nn.Identity):
        """As one of a notebook's cell or of a script."""

    module = Own()
    module.of_a_line = lambda x: x  # type: ignore[assignment]
    engines = [EngineToMeasure("ort-cpu.fp32", "ort-cpu", engine)]
    assert isinstance(run(engines, EagerBaseline(module, INPUT))["ort-cpu.fp32"][1], Latency)


class Unwritable(torch.nn.Identity):
    """What PyTorch makes of a full disk."""

    def __reduce_ex__(self, protocol: object) -> str:
        raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 64 vs 0")


def test_a_disk_that_is_full_costs_the_latencies_alone(engine: Path) -> None:
    engines = [EngineToMeasure("ort-cpu.fp32", "ort-cpu", engine)]
    reason = run(engines, EagerBaseline(Unwritable(), INPUT))["ort-cpu.fp32"][1]
    assert isinstance(reason, Skipped)
    assert "it cannot be written to" in reason.skipped


def test_a_module_that_cannot_be_imported_elsewhere_is_skipped(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = types.ModuleType("only_in_this_process")
    cls = type("Net", (torch.nn.Identity,), {"__module__": home.__name__})
    home.Net = cls  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, home.__name__, home)
    engines = [EngineToMeasure("ort-cpu.fp32", "ort-cpu", engine)]
    reason = run(engines, EagerBaseline(cls(), INPUT))["ort-cpu.fp32"][4]
    assert isinstance(reason, Skipped)
    assert "only_in_this_process" in reason.skipped
    assert "importable" in reason.skipped


NOISY_NET = """
import os
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        print("from Python")
        os.write(1, b"from below it")
        return x
"""


def test_a_users_module_is_found_in_the_working_directory_and_may_print(
    tmp_path: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_own_net.py").write_text(NOISY_NET)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        net = importlib.import_module("users_own_net").Net()
    assert str(tmp_path) not in sys.path
    engines = [EngineToMeasure("ort-cpu.fp32", "ort-cpu", engine)]
    results = run(engines, EagerBaseline(net, INPUT))
    assert isinstance(results["ort-cpu.fp32"][1], Latency)


def test_an_engine_that_does_not_load_costs_itself_alone(tmp_path: Path, engine: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    engines = [
        EngineToMeasure("broken", "ort-cpu", tmp_path / "broken.onnx"),
        EngineToMeasure("whole", "ort-cpu", engine),
    ]
    found = measure(engines, eager(), CONDITIONS, Silent())
    assert list(found.failures) == ["broken"]
    assert re.search(r"measuring broken failed: .*broken\.onnx", found.failures["broken"])
    assert "\n" not in found.failures["broken"]
    assert all(isinstance(latency, Skipped) for latency in found.latencies["broken"].values())
    assert all(isinstance(latency, Latency) for latency in found.latencies["whole"].values())


@pytest.mark.parametrize("when", ["warm_up", "time"])
def test_a_process_that_dies_while_it_is_measured_costs_its_engine_alone(
    when: str, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system kills one that takes too much memory, or an instruction that the CPU lacks."""
    ask = WorkerProcess.ask

    def dying(worker: WorkerProcess, message: Mapping[str, Any]) -> dict[str, Any]:
        if worker.name == "doomed" and when in message:
            psutil.Process(worker.pid).kill()
        return ask(worker, message)

    monkeypatch.setattr(WorkerProcess, "ask", dying)
    engines = [EngineToMeasure(name, "ort-cpu", engine) for name in ("doomed", "whole")]
    found = measure(engines, eager(), CONDITIONS, Silent())
    assert "the process that measures doomed died (SIGKILL" in found.failures["doomed"]
    assert isinstance(found.latencies["doomed"][4], Skipped)
    for latency in found.latencies["whole"].values():
        assert isinstance(latency, Latency)
        assert latency.rounds == 5


def test_a_baseline_that_dies_leaves_no_latency_and_no_failed_engine(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = WorkerProcess.ask

    def dying(worker: WorkerProcess, message: Mapping[str, Any]) -> dict[str, Any]:
        if worker.name == "torch-eager" and "time" in message:
            psutil.Process(worker.pid).kill()
        return ask(worker, message)

    monkeypatch.setattr(WorkerProcess, "ask", dying)
    found = measure([EngineToMeasure("whole", "ort-cpu", engine)], eager(), CONDITIONS, Silent())
    assert not found.failures
    reason = found.latencies["whole"][1]
    assert isinstance(reason, Skipped)
    assert "torch-eager cannot be timed here: the process that measures torch-eager died" in (
        reason.skipped
    )


JOB = {"kind": "onnx", "threads": 1, "shape": [3, 8, 8], "dtype": "float32", "seed": 0}


def test_an_idle_worker_is_stopped(tmp_path: Path, engine: Path) -> None:
    with WorkerProcess("w", tmp_path) as worker:
        worker.send({**JOB, "path": str(engine)})
        assert worker.receive() == {"ready": True}
        worker.suspend()
        child = psutil.Process(worker.pid)
        wait_until(lambda: child.status() == psutil.STATUS_STOPPED)
        assert worker.ask({"warm_up": 1})["inferences"] >= 6
        assert len(worker.ask({"time": 7, "discard": 1})["samples_s"]) == 7
        wait_until(lambda: child.status() == psutil.STATUS_STOPPED)


def test_a_dead_worker_is_a_build_error_with_its_last_words(tmp_path: Path, engine: Path) -> None:
    with WorkerProcess("ort-cpu.fp32", tmp_path) as worker:
        worker.send({**JOB, "path": str(engine)})
        worker.receive()
        with (tmp_path / "ort-cpu.fp32.log").open("a") as log:
            log.write("terminate called:\nno memory left\n")
        psutil.Process(worker.pid).kill()
        with pytest.raises(BuildError, match=r"measures ort-cpu\.fp32 died \(SIGKILL.*no memory"):
            worker.ask({"warm_up": 1})


SCRIPT = """
import signal
import sys
from pathlib import Path
from exporter.artifact import TensorSpec
from exporter.measure.interleaved import EngineToMeasure, OnnxBaseline, measure
from exporter.measure.timing import Conditions
from exporter.progress import Silent

# A test run in the background ignores Ctrl-C, and so would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Told(Silent):
    def stage(self, title, total=None):
        print(title, flush=True)
        return super().stage(title, total)

path = Path(sys.argv[1])
measure([EngineToMeasure("e", "ort-cpu", path)],
        OnnxBaseline(path.read_bytes(), TensorSpec("x", "float32", ("N", 3, 8, 8))),
        Conditions(1, 10**6, 0, (1,)), Told())
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_an_interrupted_measurement(engine: Path, how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(engine)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    for line in parent.stdout:
        if line.startswith("measure batch 1"):
            break
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) == 2
    parent.send_signal(how)
    _, complaints = parent.communicate(timeout=30)
    if how is signal.SIGINT:
        assert complaints.strip().endswith("KeyboardInterrupt")
    wait_until(lambda: not any(alive(child) for child in children))


def alive(process: psutil.Process) -> bool:
    """A zombie that nobody has reaped yet does nothing any more."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "this did not happen within 20 s"
        time.sleep(0.01)
