"""The command line as a user meets it: real processes, exit codes, one line an error, no debris."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import exporter
from exporter.builds.codec import structure
from exporter.cli import app, main
from exporter.commands.cache import Cache
from exporter.commands.compare import Comparison
from exporter.commands.explain import Explanation
from exporter.commands.validate import Validated
from tests.packed import digits_build

ROOT = Path(__file__).parents[1]
COMMANDS = """
import sys
from exporter.cli import main

for command in sys.argv[1:]:
    try:
        main(command.split())
    except SystemExit as ended:
        assert ended.code == 0, command
    print("END", flush=True)
"""
"""Commands one after the other in a process that imports the libraries once."""


def command(*arguments: str | Path, first: str = "") -> list[str]:
    """The command line in a new process, which carries out the statements `first` before it.

    Not `preexec_fn`: it would fork this process, in which libraries have threads running.
    """
    program = f"{first}; import runpy; runpy.run_module('exporter', run_name='__main__')"
    start = ["-c", program] if first else ["-m", "exporter"]
    return [sys.executable, *start, *map(str, arguments)]


def run(words: Sequence[str], cwd: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """A process in a folder that imports from this checkout, and from the paths after it."""
    found = os.pathsep.join(map(str, (ROOT, *paths)))
    return subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": found, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """The same in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    code = stop.value.code
    assert isinstance(code, int)
    return code, captured.out, captured.err


def check_refused(
    capsys: pytest.CaptureFixture[str], message: str, *arguments: str | Path, code: int = 2
) -> None:
    found, _, err = call(capsys, *arguments)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert found == code, err
    assert len(errors) == 1, err
    assert message in errors[0]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("did you mean", ["export", "resnet5O"]),
        ("did you mean ort-cpu", ["export", "--target", "ort-cpuu"]),
        ("unknown precision 'fp33'", ["export", "--precision", "fp33"]),
        ("'bias' is not one of 'all', 'biases', 'none'", ["export", "--correction", "bias"]),
        ("give positive numbers", ["export", "--batches", "1,x"]),
        ("TARGET.KEY=VALUE", ["export", "--setting", "profile"]),
        (
            "--image-size 16 is too small",
            ["export", "resnet18", "--weights", "random", "--image-size", "16"],
        ),
        ("Did you mean 'export'", ["exprot"]),
        ("No such option", ["export", "--wieghts", "x"]),
        ("holds no manifest.json", ["validate", "."]),
        ("did you mean ort-cpu", ["export", "--target", "ORT-CPU"]),
        ("'MES' is not one of 'mse', 'minmax'", ["export", "--calibration-method", "MES"]),
        ("'int8' is not one of 'fp32', 'fp16'", ["export", "--between", "int8"]),
        ("greater than or equal to 0", ["export", "--seed", "-1"]),
        ("--weights concerns models", ["trace", "absent.onnx", "--weights", "random"]),
        ("--num-classes concerns", ["export", "absent.onnx", "--num-classes", "7"]),
        ("--image-size concerns", ["trace", "absent.onnx", "--image-size", "64"]),
        ("--num-classes concerns", ["trace", "zoo:net", "--num-classes", "7"]),
        ("--rounds concerns measuring", ["export", "--no-measure", "--rounds", "50"]),
        (
            "--profile concerns targets with optimization profiles",
            ["export", "--target", "ort-cpu", "--profile", "nonsense"],
        ),
        (
            "--reduce-range concerns INT8",
            ["export", "--target", "ort-cpu", "--precision", "fp32,fp16", "--reduce-range"],
        ),
    ],
)
def test_unusable_requests(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, err = call(capsys, *arguments)
    assert found == 2, err
    assert any(part in err for part in message.split("|")), err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_error_says_which_help_tells_more(capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(capsys, "(exporter export --help tells more)", "export", "--rounds", "1")
    check_refused(capsys, "(exporter --help tells more)", "exprot")


@pytest.mark.parametrize(
    ("message", "model"),
    [
        ("exporter export resnet50 --weights weights.pth", "weights.pth"),
        ("run in nets: exporter export thin:Net", "nets/thin.py:Net"),
        ("run: exporter export thin:FACTORY", "thin.py"),
        ("notes.txt is a file, and no model", "notes.txt"),
        ("or resnet50 or", "resnet5O"),
    ],
)
def test_what_is_no_model_is_told_what_to_type(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    model: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    for command in ("export", "trace"):
        check_refused(capsys, message, command, model)


def test_a_place_that_cannot_be_written_is_refused_before_anything_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file" / "out"
    check_refused(capsys, f"cannot write to {inside}", "export", "no-such-model", "--out", inside)
    pack = ("pack", digits_build(), "--engine", "no-such-engine", "--out", inside)
    check_refused(capsys, f"cannot write to {inside}", *pack)


def test_a_build_is_named_by_its_folder_or_by_its_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits_build(), "build/net.v1")
    model = "timm:net.v1"
    for command in ("explain", "report", "validate", "benchmark", "pack"):
        options = ("--rounds", "0") if command == "benchmark" else ()  # found, then refused
        code, _, err = call(capsys, command, model, *options)
        assert code == (2 if options else 0), err
        check_refused(capsys, "in build/net.v2; run: exporter export", command, "timm:net.v2")
    assert call(capsys, "compare", model, "build/net.v1")[0] == 0


def test_json_is_alone_on_standard_output_and_reads_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    build = tmp_path / "build"
    shutil.copytree(digits_build(), build)
    kinds: dict[tuple[str | Path, ...], type[Any]] = {
        ("explain", build): Explanation,
        ("validate", build, "--blocks"): Validated,
        ("compare", build, build): Comparison,
        ("cache",): Cache,
    }
    for command, kind in kinds.items():
        code, printed, err = call(capsys, *command, "--json")
        assert code == 0, err
        found = structure(json.loads(printed), kind, "printed")
        assert found.to_json() == printed.rstrip("\n")
    (build / "engines" / "ort-cpu" / "fp32.onnx").write_bytes(b"other")
    code, printed, err = call(capsys, "validate", build, "--json", "--quiet")
    assert code == 1
    assert "is not the file that was validated" in json.loads(printed)["failures"][0]
    assert err.startswith("error: ort-cpu.fp32")


def completions(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What bash is offered for the last of the words."""
    monkeypatch.setenv("_EXPORTER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(("exporter", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        main([])
    return output.getvalue().split()


def test_the_shell_completes_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits_build(), "build/mine")
    assert completions(monkeypatch, "export", "resnet10") == ["resnet101"]
    assert completions(monkeypatch, "export", "--target", "openvino,ort-c") == [
        "openvino,ort-cpu",
        "openvino,ort-cpu:amx",
        "openvino,ort-cuda",
    ]
    assert completions(monkeypatch, "export", "--precision", "fp32,i") == ["fp32,int8"]
    assert completions(monkeypatch, "export", "--correction", "b") == ["biases"]
    assert completions(monkeypatch, "pack", "build/mine", "--format", "t") == ["triton"]
    assert completions(monkeypatch, "validate", "b") == ["build/mine"]


def test_without_a_command_the_help_is_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, errors = call(capsys)
    assert (code, errors) == (2, "")
    assert "Usage: exporter" in text
    assert all(name in text for name in ("export", "validate", "--version"))


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version") == (0, f"exporter {exporter.__version__}\n", "")


def test_destinations_that_must_not_be_touched(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    check_refused(capsys, "cannot write", "export", "--out", tmp_path / "file" / "out")
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps({"schema": 1, "model": {"name": "resnet101"}}))
    check_refused(capsys, "holds a build of resnet101", "export", "--out", other)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    check_refused(capsys, "holds no build", "export", "--out", tmp_path / "thesis")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other", "thesis"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    # A write past this size fails, as on a full disk.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))"
    arguments = ("export", "--target", "ort-cpu", "--no-measure", "--out", tmp_path / "out")
    done = run(command(*arguments, first=limit), tmp_path)
    assert done.returncode in (1, 2), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_both_onnxruntimes_at_once_are_refused(tmp_path: Path) -> None:
    fake = tmp_path / "onnxruntime_gpu-1.27.0.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.27.0\n"
    )
    done = run(command("export", "--out", "out"), tmp_path, tmp_path)
    assert done.returncode == 2
    assert "onnxruntime and onnxruntime-gpu are both installed" in done.stderr
    assert "pip uninstall" in done.stderr


def test_paths_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    build = tmp_path / "a[" / "b]" / "runs:module:[v1]"
    shutil.copytree(digits_build(), build)
    code, printed, err = call(capsys, "report", build)
    assert code == 0, err
    assert f"{build / 'report.html'}\n" in printed
    code, printed, err = call(capsys, "pack", build, "--out", build / "bundle", "--quiet")
    assert code == 0, err
    assert f"{build / 'bundle'}: " in printed


def test_a_good_run_prints_nothing_of_third_parties(tmp_path: Path) -> None:
    export = "export --target ort-cpu --precision fp32 --rounds 5 --out o"
    done = run(command(*export.split()), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ort-cpu.fp32" in done.stdout
    last = "next: open o/report.html; exporter pack o"
    assert done.stdout.splitlines()[-1] == last
    known = ("define", "export", "optimize", "reference", "lower", "build", "parity", "load",
             "profile", "measure", "report", "note:")  # fmt: skip
    strangers = [
        line
        for line in done.stderr.splitlines()
        if line.strip() and not line.strip().startswith(known)
    ]
    assert strangers == []
    commands = ("explain o", "report o", "models", "compare o o", "validate o --quiet")
    done = run([sys.executable, "-c", COMMANDS, *commands], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *printed, after = done.stdout.split("END\n")
    assert len(printed) == len(commands)
    assert all(printed[:-1])
    assert after == ""


def test_every_command_is_in_the_readme_and_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text()
    names = [command.name or command.callback.__name__ for command in app.registered_commands
             if command.callback]  # fmt: skip
    assert len(names) >= 9
    for name in names:
        assert f"exporter {name}" in readme, f"{name} is not in README.md"
        code, text, _ = call(capsys, name, "--help")
        assert code == 0
        assert len(text) > 200
        assert f"exporter {name}" in text.partition("Examples:")[2], f"{name} --help has no example"
        assert "Exit codes: 0 done; 1 " in text


def test_choices_are_taken_in_capitals(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("--precision", "INT8", "--calibration-method", "MSE", "--between", "FP16")
    check_refused(capsys, "--between concerns", "export", "--target", "ort-cpu", *given)
