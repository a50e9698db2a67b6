"""Each library of the compiler hidden in turn: a command works or says what to install.

A file of its own, so that it runs beside `test_missing_libraries.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hidden_libraries import (
    all_commands,
    benchmark_command,
    check_says_what_to_install,
    check_works,
    export_command,
    run_without,
    small_build,
    statuses,
)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_build(tmp_path_factory.mktemp("build"))


@pytest.mark.parametrize(
    "library",
    ["torch", "onnx", "onnx_ir", "onnxscript", "cattrs", "jinja2", "PIL", "psutil", "safetensors"],
)
def test_without_a_library_of_the_compiler(build: Path, tmp_path: Path, library: str) -> None:
    commands = all_commands(build, tmp_path) | {"export": export_command(tmp_path, "fp32")}
    if library != "onnxscript":  # without which it works, and that takes its time
        commands["benchmark"] = benchmark_command(build)
    ran = run_without(library, tmp_path, commands)
    for always in ("doctor", "models"):
        check_works(ran[always])
    assert statuses(ran["doctor"]).get(library, "missing") == "missing"
    check_says_what_to_install(ran["export"], library)
    for name in commands:
        if ran[name].code != 0:
            check_says_what_to_install(ran[name], library)
    assert not (tmp_path / "out").exists()
