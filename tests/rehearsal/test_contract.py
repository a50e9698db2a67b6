"""Our use of TensorRT, and Polygraphy's, against the bindings of every version that is supported.

For each: the bindings import with empty libraries; what needs a GPU is refused in one line; all
that the compiler and Polygraphy's loaders do goes through doubles which take what those bindings
take; and a strict type checker reads `exporter/targets/tensorrt` with stubs made from them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from exporter.targets.tensorrt.versions import CHECKED, release, unchecked
from tests.rehearsal import stand_ins
from tests.rehearsal.conftest import CONTRACT, ENVIRONMENT, ROOT, run
from tests.rehearsal.stubs import MODULE, write_stubs

pytestmark = pytest.mark.rehearsal

PINS = sorted(path.name for path in CONTRACT.glob("tensorrt-*"))
MYPY = """
[mypy]
strict = True
python_version = 3.11
warn_unused_ignores = False
follow_imports = silent
mypy_path = {stubs}
[mypy-polygraphy.*,tensorrt_rtx.*,onnxruntime.*,psutil.*]
ignore_missing_imports = True
follow_imports = skip
[mypy-numpy.*,onnx.*,onnx_ir.*,torch.*]
follow_imports = skip
[mypy-tensorrt_bindings.*]
ignore_errors = True
"""


@dataclass(frozen=True)
class Bindings:
    """One version's, ready to be imported in another process."""

    version: str
    variables: dict[str, str]
    stubs: Path


@pytest.fixture(scope="module", params=PINS)
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bindings:
    pin: str = request.param
    version = pin.partition("==")[2]
    folder = tmp_path_factory.mktemp("bindings")
    libraries = stand_ins.tensorrt(folder / "libraries", release(version)[0])
    variables = {"PYTHONPATH": f"{CONTRACT / pin}:{libraries}"}
    return Bindings(version, variables, write_stubs(folder / "stubs", variables))


def test_what_is_checked_here_is_what_is_told() -> None:
    versions = {".".join(pin.partition("==")[2].split(".")[:2]) for pin in PINS}
    assert versions == set(CHECKED)
    assert unchecked(metadata.version("tensorrt-cu13")) is None


IMPORT = """
import tensorrt
from exporter.targets.tensorrt import api
from exporter.targets.tensorrt.versions import unchecked

assert api.trt is tensorrt
assert unchecked(tensorrt.__version__) is None
print(tensorrt.__version__)
"""


def test_the_bindings_load(bindings: Bindings) -> None:
    ran = run("-c", IMPORT, **bindings.variables)
    assert ran.out.strip() == bindings.version, ran.err


REFUSALS = """
import json, sys
from pathlib import Path
from exporter.errors import BuildError
from exporter.targets.tensorrt import full, session

print(full.why_no_builder())
plan = Path(sys.argv[1])
plan.write_bytes(b"plan")
try:
    session.open_plan(plan, "tensorrt")
except BuildError as error:
    print(error)
"""


def test_without_a_gpu_each_refusal_is_one_line(bindings: Bindings, tmp_path: Path) -> None:
    ran = run("-c", REFUSALS, str(tmp_path / "fp16.plan"), **bindings.variables)
    builder, runtime = ran.out.splitlines()
    assert builder.startswith("it makes no builder here: is there an NVIDIA GPU"), ran.err
    assert runtime.startswith("tensorrt does not load fp16.plan: "), ran.err


def test_the_process_that_builds_says_so_too(bindings: Bindings, tmp_path: Path) -> None:
    program = f"""
import sys
from exporter.errors import BuildError
from exporter.targets.tensorrt.process import run_builder
from exporter.targets.tensorrt.request import BuildRequest

request = BuildRequest("tensorrt", "none.onnx", {str(tmp_path)!r}, "8.9", ((1, 1, 1),))
try:
    run_builder(request, "tensorrt fp16", lambda text: None)
except BuildError as error:
    print(error)
"""
    ran = run("-c", program, **bindings.variables)
    assert ran.out.startswith("tensorrt fp16: it makes no builder here: "), ran.err
    assert len(ran.out.splitlines()) == 1


def test_the_compiler_and_polygraphy_ask_for_nothing_else(
    bindings: Bindings, tmp_path: Path
) -> None:
    program = str(ROOT / "tests" / "rehearsal" / "contract.py")
    runtime = {"LD_LIBRARY_PATH": str(stand_ins.cuda_runtime(tmp_path))}
    ran = run(program, str(bindings.stubs / MODULE), **bindings.variables, **runtime)
    assert ran.out == "held\n", ran.err


def test_a_strict_type_checker_agrees(bindings: Bindings, tmp_path: Path) -> None:
    config = tmp_path / "mypy.ini"
    config.write_text(MYPY.format(stubs=bindings.stubs), encoding="utf-8")
    checked = ["exporter/targets/tensorrt", "--config-file", str(config)]
    # One cache for all: from version to version TensorRT's own modules are read again.
    ran = run("-m", "mypy", *checked, "--cache-dir", str(ENVIRONMENT / "mypy"))
    assert ran.code == 0, ran.out
    assert re.match(r"Success: no issues found in \d\d source files", ran.out), ran.out


def test_a_type_checker_sees_the_bindings(bindings: Bindings, tmp_path: Path) -> None:
    """Else everything would be Any, and the test above could not fail."""
    config = tmp_path / "mypy.ini"
    config.write_text(MYPY.format(stubs=bindings.stubs), encoding="utf-8")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from exporter.targets.tensorrt.api import trt\n"
        "def f(builder: trt.Builder) -> None:\n"
        "    builder.create_networks()\n"
        "    trt.BuilderFlag.TF33\n",
        encoding="utf-8",
    )
    ran = run(
        "-m", "mypy", str(wrong), "--config-file", str(config),
        "--cache-dir", str(ENVIRONMENT / "mypy"),
    )  # fmt: skip
    assert '"Builder" has no attribute "create_networks"' in ran.out
    assert '"TF33"' in ran.out
