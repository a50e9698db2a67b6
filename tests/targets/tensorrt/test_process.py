"""The builder process: every way in which it can end gives one clear error and no partial plan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.artifact import Precision
from exporter.errors import BuildError, UsageError
from exporter.targets import BuildOptions, get_target
from exporter.targets.tensorrt import process
from exporter.targets.tensorrt.process import run_builder
from exporter.targets.tensorrt.request import BuildRequest
from tests.graphs import random as numbers

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel here")

BUILDER = "exporter.targets.tensorrt.build"


def one_block(path: Path, operator: str = "Relu") -> Path:
    """A convolution and an operator after it."""
    weights = numpy_helper.from_array(numbers(16, 3, 3, 3), "w")
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16, 6, 6])
    domain = "" if operator == "Relu" else "com.example"
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["conv"], name="conv"),
            helper.make_node(operator, ["conv"], ["y"], name="act", domain=domain),
        ],
        "g",
        [image],
        [output],
        [weights],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opsets), path)
    return path


def refused(graph: Path, folder: Path, **given: str) -> str:
    """The error of a build that must fail and leave nothing."""
    folder.mkdir()
    with pytest.raises(BuildError) as caught:
        get_target("tensorrt-rtx:sm89").build(
            graph, Precision.FP32, folder / "fp32", BuildOptions(settings=given)
        )
    assert not list(folder.iterdir())
    message = str(caught.value)
    assert message.startswith("tensorrt-rtx:sm89 fp32: ")
    assert "\n" not in message
    assert str(folder) not in message
    return message


def test_a_small_graph_builds(tmp_path: Path) -> None:
    """What the failures below are compared with."""
    result = get_target("tensorrt-rtx:sm89").build(
        one_block(tmp_path / "g.onnx"), Precision.FP32, tmp_path / "fp32", BuildOptions()
    )
    assert all(path.exists() for path in result.files)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_nothing_of_the_working_directory_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = one_block(tmp_path / "g.onnx")
    for name in ("polygraphy", "numpy", "json", "tensorrt_rtx", "contextlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the working directory was run')")
    monkeypatch.chdir(tmp_path)
    # A trailing colon is the working directory, too.
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    get_target("tensorrt-rtx:sm89").build(graph, Precision.FP32, tmp_path / "a", BuildOptions())


def test_peak_memory_is_the_builders_own(tmp_path: Path) -> None:
    large = np.ones((1 << 30) // 8)  # a parent with a gibibyte of its own
    result = get_target("tensorrt-rtx").build(
        one_block(tmp_path / "g.onnx"), Precision.FP32, tmp_path / "fp32", BuildOptions()
    )
    assert large[-1] == 1
    assert 50 < result.requires["build"]["memory_mb"] < 900


def test_an_unsupported_operator(tmp_path: Path) -> None:
    message = refused(one_block(tmp_path / "g.onnx", "Frobnicate"), tmp_path / "out")
    assert message.endswith("its ONNX parser does not know the operator of node act [Frobnicate]")


def test_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"hello")
    message = refused(tmp_path / "g.onnx", tmp_path / "out")
    assert "finds no network in the file" in message


def test_a_dynamic_image_size(tmp_path: Path) -> None:
    model = onnx.load(one_block(tmp_path / "g.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, tmp_path / "g.onnx")
    message = refused(tmp_path / "g.onnx", tmp_path / "out")
    assert "input x has dynamic sizes besides its batch" in message


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is Linux's")
@pytest.mark.parametrize("megabytes", ["100", "170", "190"])
def test_out_of_memory(tmp_path: Path, megabytes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limited so that it runs out at the import, in the parser, and in the builder."""
    monkeypatch.setattr(process, "IDLE_LIMIT_S", 10.0)  # one of the three gets stuck
    model = onnx.load(one_block(tmp_path / "g.onnx"))
    # Enough weights that the builder needs tens of megabytes more than the library itself.
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(numbers(4096, 3, 24, 24), "w"))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 32
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 32
    del model.graph.output[0].type.tensor_type.shape.dim[1:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "g.onnx")
    message = refused(tmp_path / "g.onnx", tmp_path / "out", memory_mb=megabytes)
    assert f"--setting memory_mb={megabytes} may be too little" in message


def kill_the_builder(with_signal: int) -> threading.Thread:
    """Sends a signal to this process's builder as soon as there is one."""

    def wait_and_kill() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for child in psutil.Process().children():
                try:
                    if BUILDER in child.cmdline():
                        child.send_signal(with_signal)
                        return
                except psutil.Error:
                    continue  # it ended between the two calls
            time.sleep(0.01)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("with_signal", "words"),
    [
        (signal.SIGKILL, "the builder was killed (SIGKILL), as the system does when memory runs"),
        (signal.SIGSEGV, "the builder crashed (SIGSEGV)"),
        (signal.SIGTERM, "the builder crashed (SIGTERM)"),
    ],
)
def test_a_builder_that_is_killed(tmp_path: Path, with_signal: int, words: str) -> None:
    graph = one_block(tmp_path / "g.onnx")
    killer = kill_the_builder(with_signal)
    assert words in refused(graph, tmp_path / "out")
    killer.join()


def test_killed_in_the_middle_of_the_build(tmp_path: Path) -> None:
    """After it has reported, so that there is a half-built state to clean up."""
    (tmp_path / "out").mkdir()
    killed = threading.Event()

    def report(text: str) -> None:
        if text.endswith("build") and not killed.is_set():
            killed.set()
            kill_the_builder(signal.SIGKILL).join()

    with pytest.raises(BuildError, match=r"killed \(SIGKILL\).* \(it had used \d+ MiB\)"):
        get_target("tensorrt-rtx").build(
            one_block(tmp_path / "g.onnx"),
            Precision.FP32,
            tmp_path / "out" / "fp32",
            BuildOptions(report=report),
        )
    assert killed.is_set()
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_builder_that_is_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, so that it uses no processor time, as one whose threads wait for each other."""
    request = BuildRequest(
        library="tensorrt_rtx",
        onnx=str(one_block(tmp_path / "g.onnx")),
        folder=str(tmp_path),
        built_for="sm89",
        profiles=((1, 8, 32),),
    )
    monkeypatch.setattr(process, "IDLE_LIMIT_S", 2.0)
    stopper = kill_the_builder(signal.SIGSTOP)
    with pytest.raises(BuildError, match=r"x: the builder was stuck \(no processor time for 2 s\)"):
        run_builder(request, "x", lambda _text: None)
    stopper.join()


def test_an_interrupt_ends_the_builder_too(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    def interrupt(_text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_target("tensorrt-rtx").build(
            one_block(tmp_path / "g.onnx"),
            Precision.FP32,
            tmp_path / "out" / "fp32",
            BuildOptions(report=interrupt),
        )
    assert not list((tmp_path / "out").iterdir())
    assert not [c for c in psutil.Process().children() if BUILDER in c.cmdline()]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    graph = one_block(tmp_path / "g.onnx")
    with pytest.raises(BuildError, match=r"cannot write to .*nowhere: No such file"):
        get_target("tensorrt-rtx").build(
            graph, Precision.FP32, tmp_path / "nowhere" / "fp32", BuildOptions()
        )


def test_a_library_that_is_not_installed(tmp_path: Path) -> None:
    """Full TensorRT is not here: the worker says so, and so does its error."""
    if get_module("tensorrt"):
        pytest.skip("TensorRT is installed")
    request = BuildRequest(
        library="tensorrt",
        onnx=str(one_block(tmp_path / "g.onnx")),
        folder=str(tmp_path),
        built_for="8.9",
        profiles=((1, 1, 1),),
    )
    with pytest.raises(BuildError, match="tensorrt fp32: tensorrt does not import: No module"):
        run_builder(request, "tensorrt fp32", lambda _text: None)


def get_module(name: str) -> bool:
    from importlib import util

    return util.find_spec(name) is not None


def test_a_request_of_another_version_says_what_broke(tmp_path: Path) -> None:
    """A crash of our own: the exit code and the last line of the traceback."""
    done = subprocess.run(
        [sys.executable, "-m", BUILDER], input="{}", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "TypeError" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("profile", "8", "give batch sizes MIN:OPT:MAX"),
        ("profile", "4:2:8", "give batch sizes MIN:OPT:MAX"),
        ("profile", "0:1:2", "give batch sizes MIN:OPT:MAX"),
        ("tf32", "yes", "give on or off"),
        ("memory_mb", "lots", "give a number from 64"),
        ("profiles", "1:2:3", "did you mean profile"),
        ("timing_cache", "x", "unknown setting of target tensorrt-rtx"),
        ("hardware_compatibility", "ampere_plus", "unknown setting of target tensorrt-rtx"),
    ],
)
def test_settings_that_do_not_hold(tmp_path: Path, key: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_target("tensorrt-rtx").build(
            tmp_path / "g.onnx",
            Precision.FP32,
            tmp_path / "fp32",
            BuildOptions(settings={key: value}),
        )
