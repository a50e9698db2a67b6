"""The ways to INT8 that `int8_accuracy` compares: ours, ours with parts switched off, the peers.

Each takes the same float32 file and the same calibration images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.quantizers import quantize_nncf, quantize_static
from exporter.artifact import CalibrationMethod, Dialect, Precision
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.images.samples import Samples
from exporter.progress import Progress
from exporter.quantize.calibrate import calibrate
from exporter.quantize.correct import correct
from exporter.targets import BuildOptions, Session, get_target

if TYPE_CHECKING:
    import onnx_ir as ir

OURS: Final = "ours"
ON_OPENVINO: Final = "ours on OpenVINO"
BF16: Final = "BF16 on OpenVINO"
STATIC: Final = "quantize_static"
FLOAT_HEAD: Final = "quantize_static, float head"
NNCF: Final = "NNCF"


@dataclass(frozen=True)
class Draw:
    """What one draw of calibration images is quantized from, and where the results go."""

    graph: ir.Model
    """Optimized, float32; ends in the logits."""
    path: Path
    """The same as a file."""
    samples: Samples
    folder: Path
    threads: int
    progress: Progress


@dataclass(frozen=True)
class Quantized:
    """A file, and how a user of it would open it."""

    path: Path
    open: Callable[[], Session]


Recipe = Callable[[Draw], Quantized]


def ours(
    *,
    target: str = "ort-cpu",
    method: CalibrationMethod = CalibrationMethod.MSE,
    rounding: bool = True,
    biases: bool = True,
) -> Recipe:
    """Our own lowering for a target; the defaults are those of `exporter export`."""

    def make(draw: Draw) -> Quantized:
        ranges = calibrate(
            draw.graph, draw.samples, method=method, progress=draw.progress, cache=draw.folder
        )
        graph, _ = lower(draw.graph, Lowering(Precision.INT8, Dialect.U8_ASYMMETRIC, ranges=ranges))
        if rounding or biases:
            graph = correct(
                graph, draw.graph, draw.samples, draw.progress, rounding=rounding, biases=biases
            )
        name = "-".join(["ours", target, method, *["rounded"] * rounding, *["biased"] * biases])
        lowered = draw.folder / f"{name}.lowered.onnx"
        save(graph, lowered)
        chosen = get_target(target)
        built = chosen.build(
            lowered, Precision.INT8, draw.folder / name, BuildOptions(allow_fallback=False)
        )
        engine = built.files[0]
        return Quantized(engine, lambda: chosen.open(engine, draw.threads))

    return make


def bf16(draw: Draw) -> Quantized:
    """Our lowering to BF16 for OpenVINO, which needs no images."""
    target = get_target("openvino")
    graph, _ = lower(draw.graph, Lowering(Precision.BF16, target.dialect(Precision.BF16)))
    lowered = draw.folder / "bf16.lowered.onnx"
    save(graph, lowered)
    options = BuildOptions(allow_fallback=False)
    engine = target.build(lowered, Precision.BF16, draw.folder / "bf16", options).files[0]
    return Quantized(engine, lambda: target.open(engine, draw.threads))


def onnxruntimes(*, float_head: bool) -> Recipe:
    """ONNX Runtime's `quantize_static`, run with ONNX Runtime's default options."""

    def make(draw: Draw) -> Quantized:
        out = draw.folder / f"static{'-float-head' if float_head else ''}.onnx"
        quantize_static(draw.path, draw.samples, out, float_head=float_head)
        return Quantized(out, lambda: _open_onnx(out, draw.threads))

    return make


def nncfs(draw: Draw) -> Quantized:
    """NNCF's default, run with OpenVINO in INT8 and FP32."""
    out = quantize_nncf(draw.path, draw.samples, draw.folder / "nncf.xml")
    return Quantized(out, lambda: _open_ir(out, draw.threads))


RECIPES: Final[Mapping[str, Recipe]] = {
    OURS: ours(),
    "ours, biases left": ours(biases=False),
    "ours, weights to nearest": ours(rounding=False),
    "ours, neither": ours(rounding=False, biases=False),
    "ours, min-max ranges": ours(method=CalibrationMethod.MINMAX),
    ON_OPENVINO: ours(target="openvino"),
    STATIC: onnxruntimes(float_head=False),
    FLOAT_HEAD: onnxruntimes(float_head=True),
    NNCF: nncfs,
}


def _open_onnx(path: Path, threads: int) -> Session:
    import onnxruntime as ort

    from exporter.targets.ort.session import CPU, OrtSession

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return OrtSession(ort.InferenceSession(path, options, providers=list(CPU)))


def _open_ir(path: Path, threads: int) -> Session:
    import openvino as ov

    from exporter.targets.openvino.session import OpenVinoSession

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    return OpenVinoSession(ov.Core().compile_model(path, "CPU", settings))
