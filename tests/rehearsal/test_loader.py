"""Do the packages of the extra `gpu` load together, and in every process that makes a session?

What a provider is linked with is read from its ELF header. Then each provider is really loaded, in
each kind of process, as far as the driver, which is a stand-in: CUDA's error 35. On its way there
it reads its options, and TensorRT's calls TensorRT, which is a stand-in, too.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import onnx
import pytest
from elftools.elf.elffile import ELFFile
from onnx import TensorProto, helper
from packaging.requirements import Requirement

from exporter.runtime import gpu_libraries
from exporter.runtime.gpu_libraries import CUDA, TENSORRT, Library
from tests.packed import copy_of, digits_bundle, edit_manifest
from tests.rehearsal import stand_ins
from tests.rehearsal.conftest import ROOT, run

pytestmark = pytest.mark.rehearsal

SYSTEM = {
    "libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1",
    "libstdc++.so.6", "ld-linux-x86-64.so.2",
}  # fmt: skip
REACHED_THE_DRIVER = "CUDA failure 35: CUDA driver version is insufficient"


def provider(name: str) -> Path:
    import onnxruntime

    return Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"


def needed(library: Path) -> set[str]:
    """The shared libraries that a library is linked with, the system's left out."""
    with library.open("rb") as file:
        tags = ELFFile(file).get_section_by_name(".dynamic").iter_tags()
        return {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"} - SYSTEM


def taken(library: Path) -> set[str]:
    """The symbols that a library takes from TensorRT or the driver."""
    theirs = re.compile(
        r"create(Infer|NvOnnx)\w+|get(Builder)?PluginRegistry|getInferLibVersion|"
        r"getNvOnnxParserVersion|initLibNvInferPlugins|cu[A-Z][A-Za-z]+"
    )
    with library.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".dynsym").iter_symbols()
        undefined = {symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"}
    return {name for name in undefined if theirs.fullmatch(name)}


def distribution_of(file: str) -> str:
    """The installed distribution that brings a shared library."""
    for distribution in metadata.distributions():
        if any(path.name == file for path in distribution.files or ()):
            return distribution.name
    raise LookupError(f"no package of the extra installs {file}")


def extra(name: str) -> dict[str, Requirement]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = tomllib.loads(text)["project"]["optional-dependencies"][name]
    return {one.name: one for one in map(Requirement, listed)}


def libraries() -> tuple[Library, ...]:
    import onnxruntime

    cuda = int(onnxruntime.cuda_version.partition(".")[0])
    linked = gpu_libraries.linked_tensorrt(Path(onnxruntime.__file__).parent)
    return gpu_libraries.cuda_libraries(cuda) + gpu_libraries.tensorrt_libraries(linked)


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_what_a_provider_is_linked_with_is_what_we_load(name: str) -> None:
    ours = {library.file for library in libraries()} | {gpu_libraries.DRIVER}
    assert needed(provider(name))
    assert needed(provider(name)) <= ours


@pytest.mark.parametrize("library", libraries(), ids=lambda library: library.file)
def test_the_package_that_an_error_names_brings_the_file(library: Library) -> None:
    named = Requirement(library.package)
    brings = distribution_of(library.file)
    assert brings in (named.name, f"{named.name}-libs")
    assert named.specifier.contains(metadata.version(brings))


def test_the_extra_takes_the_tensorrt_that_the_provider_is_linked_with() -> None:
    (linked,) = re.findall(r"libnvinfer\.so\.(\d+)", " ".join(needed(provider("tensorrt"))))
    allowed = extra("gpu")["tensorrt-cu13"].specifier
    assert allowed.contains(f"{linked}.99")
    assert not allowed.contains(f"{int(linked) + 1}.0"), "that one is another libnvinfer.so"
    others = extra("tensorrt11")["tensorrt-cu13"].specifier
    assert not others.contains(f"{linked}.99")


def test_the_extra_takes_one_minor_version_of_onnx_runtime() -> None:
    """Another one may be linked with other libraries; this test then says so first."""
    installed = metadata.version("onnxruntime-gpu")
    major, minor = map(int, installed.split(".")[:2])
    allowed = extra("runtime-gpu")["onnxruntime-gpu"].specifier
    assert allowed.contains(installed)
    assert not allowed.contains(f"{major}.{minor + 1}.0")


def test_stand_ins_define_what_is_taken_and_no_more() -> None:
    (bindings,) = (
        Path(str(file.locate()))
        for file in metadata.files("tensorrt-cu13-bindings") or ()
        if file.name == "tensorrt.so"
    )
    of_tensorrt = {"getPluginRegistry", *stand_ins.NVINFER, *stand_ins.PARSER, *stand_ins.PLUGINS}
    assert taken(bindings) | taken(provider("tensorrt")) == of_tensorrt
    assert taken(provider("cuda")) == set(stand_ins.DRIVER)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "relu.onnx"
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3, 8, 8]) for n in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    model = helper.make_graph([node], "g", values[:1], values[1:])
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(model, ir_version=10, opset_imports=[opset]), path)
    return path


COMPILER = """
import sys
from pathlib import Path
from exporter.targets.ort import cuda, cuda_options, gpu, tensorrt
from exporter.targets.tensorrt.settings import TensorRtSettings
from exporter.artifact import Precision
from exporter.errors import ExporterError

graph, provider = Path(sys.argv[1]), sys.argv[2]
half = cuda_options.options_for(allow_fallback=False) | {cuda_options.LAYOUT: "1"}
options = half if provider == cuda.PROVIDER else tensorrt.build_options(
    Precision.FP16, TensorRtSettings(optimization_level=3, timing_cache="times"),
    {"x": ("n", 3, 8, 8)}, "10.16", Path("engine.onnx"),
)
options = {**options, **dict(pair.split("=") for pair in sys.argv[3:])}
assert "torch" not in sys.modules
try:
    gpu.gpu_session(graph, provider, options)
except ExporterError as error:
    print(error)
"""


@pytest.mark.parametrize("name", [CUDA, TENSORRT])
def test_the_compiler_reaches_cudas_driver(
    name: str, graph: Path, claimed_gpu: Mapping[str, str]
) -> None:
    """With all that the targets ask of the provider, which it reads before it asks the driver."""
    ran = run("-c", COMPILER, str(graph), name, **claimed_gpu)
    assert REACHED_THE_DRIVER in ran.out, ran.err
    assert len(ran.out.splitlines()) == 1
    assert "onnxruntime_src" not in ran.out
    assert "hostname" not in ran.out


@pytest.mark.parametrize("name", [CUDA, TENSORRT])
def test_an_option_that_a_provider_does_not_know_would_be_refused(
    name: str, graph: Path, claimed_gpu: Mapping[str, str]
) -> None:
    ran = run("-c", COMPILER, str(graph), name, "nonsense=1", **claimed_gpu)
    assert "nonsense" in ran.out, ran.err
    assert REACHED_THE_DRIVER not in ran.out


def test_tensorrts_provider_really_calls_tensorrt(
    graph: Path, claimed_gpu: Mapping[str, str]
) -> None:
    tells = {stand_ins.TELLS: "1"}
    ran = run("-c", COMPILER, str(graph), TENSORRT, **claimed_gpu, **tells)
    assert "called initLibNvInferPlugins" in ran.err, ran


WORKER = """
import json, sys
from pathlib import Path
from exporter.errors import ExporterError
from exporter.measure.process import WorkerProcess

job = {"kind": "engine", "path": sys.argv[1], "target": "ort-cuda", "threads": 1,
       "shape": [3, 8, 8], "dtype": "float32", "seed": 0}
with WorkerProcess("engine", Path(sys.argv[2])) as worker:
    try:
        print(worker.ask(job))
    except ExporterError as error:
        print(error)
"""


def test_a_process_that_measures_reaches_cudas_driver(
    graph: Path, claimed_gpu: Mapping[str, str], tmp_path: Path
) -> None:
    ran = run("-c", WORKER, str(graph), str(tmp_path), **claimed_gpu)
    assert REACHED_THE_DRIVER in ran.out, ran


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, whose FP32 engine is told to be CUDA's."""
    copy = copy_of(digits_bundle(), tmp_path_factory.mktemp("bundle"))

    def for_cuda(manifest: dict[str, object]) -> None:
        engines = manifest["engines"]
        assert isinstance(engines, list)
        (engine,) = [engine for engine in engines if engine["id"] == "ort-cpu.fp32"]
        engine |= {"id": "ort-cuda.fp32", "target": "ort-cuda"}
        engine["requires"] = {"provider_options": {CUDA: {"use_tf32": "0"}}}
        bundled = manifest["bundle"]
        assert isinstance(bundled, dict)
        tolerances = bundled["tolerances"]
        tolerances["ort-cuda.fp32"] = tolerances.pop("ort-cpu.fp32")

    edit_manifest(copy, for_cuda)
    return copy


SERVER = """
import sys
from exporter.runtime import ServingError, load

try:
    print(load(sys.argv[1], device=sys.argv[2]).id)
except ServingError as error:
    print(error)
assert not {"torch", "onnx", "exporter.targets"} & set(sys.modules)
"""


def test_a_server_reaches_cudas_driver(bundle: Path, claimed_gpu: Mapping[str, str]) -> None:
    ran = run("-c", SERVER, str(bundle), "cuda", **claimed_gpu)
    assert REACHED_THE_DRIVER in ran.out, ran
    assert ran.code == 0, ran


def test_a_server_without_a_driver_says_so_and_takes_the_cpu(bundle: Path) -> None:
    told = run("-c", SERVER, str(bundle), "cuda")
    assert "ort-cuda.fp32: libcuda.so.1 is not here" in told.out, told
    assert run("-c", SERVER, str(bundle), "auto").out.startswith("ort-cpu."), "auto takes another"


def test_a_server_without_a_gpu_says_so(bundle: Path, no_gpu: Mapping[str, str]) -> None:
    told = run("-c", SERVER, str(bundle), "cuda", **no_gpu)
    assert "NVIDIA's driver finds no GPU for this process (CUDA error 100)" in told.out, told


def test_a_server_is_asked_for_the_engines_own_options(
    bundle: Path, claimed_gpu: Mapping[str, str], tmp_path: Path
) -> None:
    copy = copy_of(bundle, tmp_path)

    def nonsense(manifest: dict[str, object]) -> None:
        engines = manifest["engines"]
        assert isinstance(engines, list)
        for engine in engines:
            if engine["id"] == "ort-cuda.fp32":
                engine["requires"]["provider_options"][CUDA] = {"nonsense": "1"}

    edit_manifest(copy, nonsense)
    told = run("-c", SERVER, str(copy), "cuda", **claimed_gpu)
    assert "Unknown provider option" in told.out, told


TRITON = """
import json, runpy, sys, types

def log(text): print(text)

sys.modules["triton_python_backend_utils"] = types.SimpleNamespace(
    Logger=types.SimpleNamespace(log_info=log)
)
module = runpy.run_path(sys.argv[1])
tensor = {"name": "images", "data_type": "TYPE_FP32"}
config = {"name": "digits", "input": [tensor], "output": [{"name": "logits"}],
          "parameters": {"threads": {"string_value": "1"}}}
try:
    module["TritonPythonModel"]().initialize({"model_config": json.dumps(config)})
except Exception as error:
    print(error)
"""


def test_tritons_packed_model_reaches_cudas_driver(
    bundle: Path, claimed_gpu: Mapping[str, str], tmp_path: Path
) -> None:
    shipped = ROOT / "exporter" / "pack" / "shipped" / "triton_model.py"
    (tmp_path / "model.py").write_bytes(shipped.read_bytes())
    copy_of(bundle, tmp_path)
    ran = run("-c", TRITON, str(tmp_path / "model.py"), **claimed_gpu)
    assert REACHED_THE_DRIVER in ran.out, ran


PLAN = """
import sys
from exporter.targets.tensorrt import session

session._choose("tensorrt")
from polygraphy import cuda
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER

G_LOGGER.module_severity = G_LOGGER.CRITICAL
try:
    cuda.Stream()
except PolygraphyException as error:
    print(error)
paths = {line.split()[-1] for line in open("/proc/self/maps")}
print([path for path in paths if "libcudart" in path and not path.startswith(sys.prefix)])
"""


def test_polygraphy_finds_the_cuda_runtime(claimed_gpu: Mapping[str, str]) -> None:
    """It looks where CUDA 12's wheels are and in the system; CUDA 13's have another folder."""
    ran = run("-c", PLAN, **claimed_gpu)
    assert "CUDA Error: 35" in ran.out, ran
    assert ran.out.endswith("[]\n"), "another CUDA runtime than the wheel's"


MISSING = """
import sys
from exporter.runtime import gpu_libraries
print(gpu_libraries.why_not(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("file", "name", "package"),
    [
        ("cu13/lib/libcublas.so.13", CUDA, "nvidia-cublas"),
        ("cudnn/lib/libcudnn.so.9", CUDA, "nvidia-cudnn-cu13"),
        ("cu13/lib/libcurand.so.10", TENSORRT, "nvidia-curand"),
    ],
)
def test_a_missing_file_is_named_with_its_package(file: str, name: str, package: str) -> None:
    import nvidia

    path = Path(nvidia.__path__[0], file)
    aside = path.rename(path.with_suffix(".aside"))
    try:
        ran = run("-c", MISSING, name)
    finally:
        aside.rename(path)
    assert ran.out.strip() == f"{path.name} is not here; run: pip install '{package}'", ran.err


def test_another_tensorrt_is_named_with_the_one_that_is_needed(
    tmp_path: Path, claimed_gpu: Mapping[str, str]
) -> None:
    """As where TensorRT 11 is installed: libnvinfer.so.11 is there, and .10 is not."""
    eleven = stand_ins.tensorrt(tmp_path, 11)
    ran = run("-c", MISSING, TENSORRT, PYTHONPATH=str(eleven), **claimed_gpu)
    assert ran.out.startswith("libnvinfer.so.10 is not here (onnxruntime 1.31"), ran
    assert ran.out.rstrip().endswith("run: pip install 'tensorrt-cu13>=10,<11'")


def test_cuda_torch_and_onnx_runtime_share_their_libraries(claimed_gpu: Mapping[str, str]) -> None:
    """Two copies of cuDNN or cuBLAS in one process would be a mixture of versions."""
    program = f"""
import torch
from exporter.runtime import gpu_libraries
assert torch.version.cuda.startswith("13."), torch.version.cuda
print(gpu_libraries.why_not({TENSORRT!r}))
paths = {{line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}}
names = [path.rpartition("/")[2] for path in paths if "/nvidia/" in path]
assert len(names) == len(set(names)) > 8, sorted(names)
"""
    ran = run("-c", program, **claimed_gpu)
    assert (ran.code, ran.out) == (0, "None\n"), ran.err
