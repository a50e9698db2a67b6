"""Engines on a host that others use, too: idle threads sleep, and none is bound to a core."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.runtime import Advice, InputError, Threads, load
from exporter.runtime.machine import usable_threads
from exporter.runtime.sessions import ALLOW_SPINNING, OpenVinoSession
from tests.packed import digits_bundle, edit_manifest, loaded

OPENVINO = pytest.importorskip("openvino")
SERVER = """
import sys
from exporter.runtime.sessions import OpenVinoSession
from exporter.runtime.description import Requirements
from exporter.runtime.threads import Threads
import numpy
files = [open(name, "rb").read() for name in sys.argv[1:]]
session = OpenVinoSession(files, "fp32", Requirements(), Threads(2), ("CPU",))
for _ in range(20):
    session.run([numpy.zeros((1, 8, 64, 64), numpy.float32)])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def ir_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of a network of one convolution, as OpenVINO takes it."""
    folder = tmp_path_factory.mktemp("ir")
    operators = OPENVINO.opset13
    given = operators.parameter([-1, 8, 64, 64], np.float32)
    weights = operators.constant(np.ones((16, 8, 3, 3), np.float32))
    convolution = operators.convolution(given, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    model = OPENVINO.Model([convolution], [given], "small")
    OPENVINO.save_model(model, folder / "small.xml", compress_to_fp16=False)
    return [folder / "small.xml", folder / "small.bin"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to read its threads")
def test_two_processes_may_both_use_every_core(ir_files: list[Path]) -> None:
    """Bound, a thread of each would have the first core and halve the other."""
    allowed = os.sched_getaffinity(0)
    command = [sys.executable, "-c", SERVER, *map(str, ir_files)]
    servers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
        for server in servers:
            tasks = [int(task.name) for task in Path(f"/proc/{server.pid}/task").iterdir()]
            assert len(tasks) > 1
            assert {task: os.sched_getaffinity(task) for task in tasks} == dict.fromkeys(
                tasks, allowed
            )
    finally:
        for server in servers:
            server.communicate("")


@pytest.mark.parametrize(
    ("options", "spins", "pool"),
    [
        ({}, True, 2),
        ({"shared": True}, False, 2),
        ({"streams": 2}, False, 3),
        ({"streams": 2, "shared": True}, False, 3),
    ],
)
def test_idle_threads_spin_only_where_the_host_is_the_engines(
    options: dict[str, Any], spins: bool, pool: int
) -> None:
    with load(digits_bundle(), engine="ort-cpu.int8", threads=2, **options) as engine:
        assert engine.threads.spin is spins
        assert ("sleep" in repr(engine)) is not spins
        session: Any = engine._session
        made = session._session.get_session_options()
        assert made.intra_op_num_threads == pool
        if spins:
            with pytest.raises(RuntimeError):
                made.get_session_config_entry(ALLOW_SPINNING)
        else:
            assert made.get_session_config_entry(ALLOW_SPINNING) == "0"


def test_openvino_computes_as_many_calls_side_by_side_as_it_has_streams(
    ir_files: list[Path],
) -> None:
    from exporter.runtime.description import Requirements

    files = [file.read_bytes() for file in ir_files]
    for threads in (Threads(2), Threads(1, streams=2, shared=True)):
        session = OpenVinoSession(files, "fp32", Requirements(), threads, ("CPU",))
        assert session._model.get_property("NUM_STREAMS") == threads.streams
        assert session._model.get_property("INFERENCE_NUM_THREADS") == 2


def test_calls_side_by_side_answer_as_one_does() -> None:
    with np.load(digits_bundle() / "golden.npz") as goldens:
        images = goldens["images"]
    with load(digits_bundle(), engine="ort-cpu.int8", threads=1, streams=4) as engine:
        expected = engine(images)
        found: list[Any] = []
        callers = [threading.Thread(target=lambda: found.append(engine(images))) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert len(found) == 8
    assert all((answer == expected).all() for answer in found)


def test_what_was_measured_advises_and_sets_the_threads_of_a_shared_host(bundle: Path) -> None:
    edit_manifest(bundle, loaded)
    with load(bundle, engine="ort-cpu.int8", shared=True) as engine:
        assert engine.advice == Advice(3, 3, 1, 1, 8, 93.0, 24.0)
        assert engine.advice.processes_on(16) == 16
        assert engine.threads == Threads(1, shared=True)
    with load(bundle, engine="ort-cpu.int8") as engine:
        assert engine.threads == Threads(usable_threads())
    with load(bundle, engine="ort-cpu.fp16", shared=True) as engine:
        assert engine.advice is None
        assert engine.threads.each == usable_threads()


@pytest.mark.parametrize("options", [{"streams": 0}, {"streams": "2"}, {"shared": "yes"}])
def test_what_is_no_number_of_streams_or_no_switch_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        load(digits_bundle(), **options)
