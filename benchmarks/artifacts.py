"""The files that the engines load, built once and kept under `build/bench`.

A folder is named by everything that its files depend on: model, image size, seed, the versions of
the libraries, the exporter's own source. Ours come from the public pipeline. INT8 is calibrated on
the same few images for everybody: this suite measures time; accuracy is the pipeline's matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import attrs

import exporter
from benchmarks import (
    executorch_xnnpack,
    litert_xnnpack,
    modelopt,
    ncnn_runtime,
    quantizers,
    torchao_int8,
)
from benchmarks.gpu_peers import require_gpu, require_torch_tensorrt
from benchmarks.peers import require_bf16, require_zentorch
from exporter import host
from exporter.artifact import Dialect, Model, ModelSpec, Precision, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.request import ExportRequest
from exporter.disk.writing import whole_file
from exporter.errors import BuildError, MissingDependencyError
from exporter.graph.to_onnx import quiet_exporter
from exporter.images.samples import Data, open_data
from exporter.models.sources import define
from exporter.pipeline import export_model
from exporter.progress import Progress
from exporter.targets import folder_name, why_not_here

CALIBRATION: Final = 32
"""Images that INT8 is calibrated on, ours and the peers'."""
CACHE: Final = Path("build/bench")
OURS: Final = (
    *("ort-cpu.fp32", "ort-cpu.int8", "openvino.fp32", "openvino.int8"),
    "ort-cpu:amx.int8",
    *("tensorrt.fp32", "tensorrt.fp16", "tensorrt.int8"),
    *("ort-cuda.fp32", "ort-cuda.fp16", "ort-tensorrt.fp16", "ort-tensorrt.int8"),
)
TOGETHER: Final = ("ort-cpu", "openvino")
PRECISIONS: Final = (Precision.FP32, Precision.INT8)
"""What one export builds; each engine of another target or precision has one of its own."""


@dataclass(frozen=True)
class Recipe:
    """One model at one image size, and where its files are kept."""

    model: Model
    data: Data
    folder: Path
    seed: int
    weights: str
    progress: Progress

    def path(self, name: str) -> Path:
        return self.folder / name


@dataclass(frozen=True)
class Artifacts:
    """The files of one model."""

    spec: ModelSpec
    data: Data
    files: Mapping[str, Path | Skipped]
    folder: Path
    """Where they are kept."""
    broken: frozenset[str] = frozenset()
    """Those that should have been built here and were not."""

    def bytes(self, key: str) -> int | None:
        """The size of an artifact; OpenVINO and ncnn have the weights in a second file."""
        path = self.files[key]
        if isinstance(path, Skipped):
            return None
        weights = path.with_suffix(".bin")
        beside = (
            weights.stat().st_size if path.suffix in (".xml", ".param") and weights.exists() else 0
        )
        return path.stat().st_size + beside


def build(
    source: str,
    keys: Iterable[str],
    *,
    image_size: int | None = None,
    weights: str = "random",
    seed: int = 0,
    cache: Path = CACHE,
    progress: Progress,
) -> Artifacts:
    """Every artifact of `keys` (of BUILDERS) for a model, or why there is none.

    Raises:
        UsageError: no such model.
    """
    model = define(source, weights, image_size=image_size, seed=seed, progress=progress)
    data = open_data(model.spec, None, seed=seed)
    data = replace(data, calibration=data.calibration.take(CALIBRATION))
    folder = cache / f"{model.spec.name}-{_key(model.spec, seed)}"
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(model, data, folder, seed, weights, progress)
    files: dict[str, Path | Skipped] = {}
    broken = set()
    for key in dict.fromkeys(keys):
        try:
            files[key] = BUILDERS[key](recipe)
        except MissingDependencyError as error:
            files[key] = Skipped(str(error))
        except BuildError as error:
            files[key] = Skipped(str(error))
            broken.add(key)
    return Artifacts(model.spec, data, files, folder, frozenset(broken))


def _key(spec: ModelSpec, seed: int) -> str:
    package = Path(exporter.__file__).parent
    sources = hashlib.sha256()
    makers = (
        "artifacts.py", "executorch_xnnpack.py", "litert_xnnpack.py", "modelopt.py",
        "ncnn_runtime.py", "quantizers.py", "torchao_int8.py",
    )  # fmt: skip
    here = [Path(__file__).with_name(name) for name in makers]
    for path in sorted([*package.rglob("*.py"), *here]):
        sources.update(path.read_bytes())
    depends = [spec.weights.sha256, spec.input.shape, seed, host.versions(), sources.hexdigest()]
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:12]


def _eager(recipe: Recipe) -> Path:
    import torch

    path = recipe.path("eager.pt")
    if not path.exists():
        assert recipe.model.module is not None
        with whole_file(path) as file:
            torch.save(recipe.model.module, file)
    return path


def _plain(recipe: Recipe) -> Path:
    """What `torch.onnx.export` writes with its defaults, the batch left open."""
    import torch

    path = recipe.path("plain.onnx")
    if path.exists():
        return path
    spec = recipe.model.spec
    assert recipe.model.module is not None
    with recipe.progress.stage(f"{spec.name}: PyTorch's own export"), quiet_exporter():
        program = torch.onnx.export(
            recipe.model.module.eval(),
            (torch.zeros(2, *spec.image_shape),),
            dynamo=True,
            verbose=False,
            input_names=[spec.input.name],
            output_names=[spec.output.name],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        assert program is not None
        with whole_file(path) as file:
            program.save(file, external_data=False)
    return path


def _ours(engine: str) -> Callable[[Recipe], Path]:
    def build_it(recipe: Recipe) -> Path:
        target = engine.partition(".")[0]
        skipped = why_not_here(target)
        if skipped is not None:
            raise MissingDependencyError(skipped.skipped)
        precision = Precision(engine.rpartition(".")[2])
        together = target in TOGETHER and precision in PRECISIONS
        out = recipe.path("ours" if together else f"ours-{folder_name(engine)}")
        if not (out / "manifest.json").exists():
            shape = recipe.model.spec.image_shape
            precisions = PRECISIONS if together else (precision,)
            request = ExportRequest(
                source=recipe.model.spec.source,
                weights=recipe.weights,
                targets=TOGETHER if together else (target,),
                precisions=precisions,
                out=out,
                seed=recipe.seed,
                image_size=int(shape[-1]),
                samples=8,
                measure=False,
            )
            if Precision.INT8 in precisions:  # else it is an option that nothing uses: refused
                request = attrs.evolve(request, calibration_samples=CALIBRATION)
            export_model(request, recipe.progress)
        manifest = manifests.read(out)
        built = manifest.engine(engine)
        if built is None or built.rejected:
            said = [line for line in manifest.failures if line.startswith(f"{engine}: ")]
            raise BuildError(said[0] if said else f"the pipeline built no {engine}")
        return out / built.path

    return build_it


def _s8_symmetric(recipe: Recipe) -> Path:
    """Our INT8 graph in TensorRT's dialect."""
    from exporter.graph.files import load, save
    from exporter.graph.lower import Lowering, lower
    from exporter.quantize.calibrate import calibrate

    path = recipe.path("s8-symmetric.onnx")
    if path.exists():
        return path
    _ours("ort-cpu.fp32")(recipe)
    graph = load(recipe.path("ours") / "onnx" / f"{recipe.model.spec.name}.fp32.onnx")
    ranges = calibrate(
        graph,
        recipe.data.calibration,
        progress=recipe.progress,
        cache=host.cache_folder("ranges"),
    )
    lowered, _ = lower(graph, Lowering(Precision.INT8, Dialect.S8_SYMMETRIC, ranges=ranges))
    save(lowered, path)
    return path


def _once(file: str, tool: str, make: Callable[[Recipe, Path], Path]) -> Callable[[Recipe], Path]:
    """What another tool writes, made once."""

    def build_it(recipe: Recipe) -> Path:
        path = recipe.path(file)
        if path.exists():
            return path
        with recipe.progress.stage(f"{recipe.model.spec.name}: {tool}"), quiet_exporter():
            return make(recipe, path)

    return build_it


def _ort_quantized(recipe: Recipe, path: Path) -> Path:
    return quantizers.quantize_static(
        _plain(recipe), recipe.data.calibration, path, float_head=False
    )


def _nncf(recipe: Recipe, path: Path) -> Path:
    return quantizers.quantize_nncf(_plain(recipe), recipe.data.calibration, path)


def _torchao(recipe: Recipe, path: Path) -> Path:
    return torchao_int8.quantize(recipe.model, recipe.data.calibration, path)


def _executorch(recipe: Recipe, path: Path) -> Path:
    return executorch_xnnpack.convert(recipe.model, path)


def _litert(recipe: Recipe, path: Path) -> Path:
    return litert_xnnpack.convert(recipe.model, path)


def _litert_int8(recipe: Recipe, path: Path) -> Path:
    graph = BUILDERS["litert"](recipe)
    return litert_xnnpack.quantize(graph, recipe.data.calibration, path)


def _ncnn(recipe: Recipe, path: Path) -> Path:
    return ncnn_runtime.convert(recipe.model, path)


def _modelopt(recipe: Recipe) -> Path:
    path = recipe.path("modelopt.onnx")
    if path.exists():
        return path
    return modelopt.quantize(_plain(recipe), recipe.data.calibration, path, recipe.progress)


def _where(require: Callable[[], None], make: Callable[[Recipe], Path]) -> Callable[[Recipe], Path]:
    """The same file, where what loads it is here."""

    def build_it(recipe: Recipe) -> Path:
        require()
        return make(recipe)

    return build_it


BUILDERS: Final[Mapping[str, Callable[[Recipe], Path]]] = {
    "eager": _eager,
    "plain": _plain,
    "plain-bf16": _where(require_bf16, _plain),
    "eager-bf16": _where(require_bf16, _eager),
    "zentorch": _where(require_zentorch, _eager),
    "executorch": _once("executorch.pte", "ExecuTorch", _executorch),
    "litert": _once("litert.tflite", "LiteRT", _litert),
    "litert-int8": _once("litert-int8.tflite", "AI Edge Quantizer", _litert_int8),
    "ncnn": _once("ncnn.param", "ncnn", _ncnn),
    "torchao": _once("torchao.pt2", "torchao", _torchao),
    "ort-quantized": _once("ort-quantized.onnx", "ONNX Runtime's quantize_static", _ort_quantized),
    "nncf": _once("nncf.xml", "NNCF", _nncf),
    "modelopt": _modelopt,
    "eager-cuda": _where(require_gpu, _eager),
    "torch-tensorrt": _where(require_torch_tensorrt, _eager),
    "plain-cuda": _where(require_gpu, _plain),
    "s8-symmetric": _s8_symmetric,
    **{engine: _ours(engine) for engine in OURS},
    "openvino.bf16": _where(require_bf16, _ours("openvino.bf16")),
}
