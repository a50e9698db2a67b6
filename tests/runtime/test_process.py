"""The runtime in processes of its own: what it imports, what survives a fork, what reloads leak.

Each test runs a program, since the test process has PyTorch and everything else loaded.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import exporter.runtime
from exporter import export
from tests.packed import digits_bundle, pack_build

REPOSITORY = Path(exporter.__file__).parent.parent


def run_program(program: str, *arguments: str, path: Path = REPOSITORY) -> str:
    """What a Python program prints; its errors are this test's."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": str(path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_imports_neither_a_compiler_nor_a_runtime_library() -> None:
    program = """
import sys
import exporter.runtime
heavy = "torch onnx onnx_ir matplotlib onnxruntime openvino jinja2 exporter.artifact".split()
print([name for name in heavy if name in sys.modules])
exporter.runtime.load(sys.argv[1]).close()
print([name for name in heavy if name in sys.modules])
"""
    assert run_program(program, str(digits_bundle())).splitlines() == ["[]", "['onnxruntime']"]


def test_it_serves_where_only_numpy_and_the_runtime_library_are_installed(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "exporter").mkdir(parents=True)
    (site / "exporter" / "__init__.py").write_text("")
    source = Path(exporter.runtime.__file__).parent
    shutil.copytree(source, site / "exporter" / "runtime")
    for name in ("numpy", "onnxruntime"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        beside = [p for p in package.parent.glob(f"{name}[.-]*") if p.is_dir()]
        for folder in (package, *beside):
            (site / folder.name).symlink_to(folder)
    program = """
import sys
sys.path[:] = [p for p in sys.path if "site-packages" not in p]
import exporter.runtime, numpy
engine = exporter.runtime.load(sys.argv[1], engine="ort-cpu.int8")
images = numpy.load(sys.argv[1] + "/golden.npz")["images"]
print(engine.id, [p[0].label for p in engine.predict(images, top=1)])
try:
    import torch
except ModuleNotFoundError:
    print("no torch")
"""
    printed = run_program(program, str(digits_bundle()), path=site).splitlines()
    assert printed[0].startswith("ort-cpu.int8 ['")
    assert printed[1] == "no torch"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this operating system has no fork")
def test_after_a_fork_the_child_is_told_to_load_its_own() -> None:
    program = """
import gc, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: it is the point
import numpy
from exporter.runtime import ClosedError, load
engine = load(sys.argv[1])
images = numpy.load(sys.argv[1] + "/golden.npz")["images"]
expected = engine(images)
child = os.fork()
if child == 0:
    try:
        engine(images)
    except ClosedError as error:
        print(error)
    own = load(sys.argv[1])
    print((own(images) == expected).all())
    engine.close()
    del own, engine
    gc.collect()
    sys.stdout.flush()
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (engine(images) == expected).all())
"""
    printed = run_program(program, str(digits_bundle())).splitlines()
    assert "does not survive a fork; call exporter.runtime.load in process" in printed[0]
    assert printed[1:] == ["True", "7 True"]


CHILDREN = {
    "leaves": "pass",
    "closes": "engine.close()",
    "drops": "del engine; gc.collect()",
    "loads its own": "own = load(bundle, engine=name); own(images); own.close()",
    "loads its own under the same name": "engine = load(bundle, engine=name); engine(images)",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this operating system has no fork")
@pytest.mark.parametrize("target", ["ort-cpu", "openvino"])
def test_a_child_ends_whatever_it_does_with_the_engine_that_it_inherited(
    tmp_path: Path, target: str
) -> None:
    """Each ends as processes do, through the interpreter's and the libraries' own ends."""
    bundle, name = digits_bundle(), "ort-cpu.fp32"
    if target == "openvino":
        build = export(
            "resnet20-digits", out=tmp_path / "build", targets=["openvino"], precisions=["fp32"],
            measure=False,
        )  # fmt: skip
        bundle, name = pack_build(build.path, tmp_path / "bundle"), "openvino.fp32"
    for does, code in CHILDREN.items():
        program = f"""
import gc, os, signal, sys, warnings
warnings.simplefilter("ignore")  # of forks beside threads: it is the point
import numpy
from exporter.runtime import load
bundle, name = sys.argv[1:]
engine = load(bundle, engine=name, threads=2)
images = numpy.load(bundle + "/golden.npz")["images"]
engine(images)
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that hangs is killed
    {code}
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
        assert run_program(program, str(bundle), name) == "0\n", f"a child that {does}"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to read its memory")
def test_200_reloads_leak_nothing() -> None:
    program = """
import sys
import numpy
from exporter.runtime import load
images = numpy.load(sys.argv[1] + "/golden.npz")["images"]
def resident_bytes():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
for reload in range(200):
    with load(sys.argv[1], threads=2) as engine:
        engine(images)
    if reload == 49:
        before = resident_bytes()
print(resident_bytes() - before)
"""
    grown = int(run_program(program, str(digits_bundle())))
    engine = (digits_bundle() / "engines/ort-cpu/int8.onnx").stat().st_size
    # Were each reload's file, session or threads kept, it would be 150 times that.
    assert grown < 20 * engine
