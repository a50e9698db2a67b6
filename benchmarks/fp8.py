"""What FP8 (E4M3) would gain on TensorRT-RTX, beside FP16 and INT8: kernels, types, fused sums.

    python -m benchmarks.fp8 --model resnet50

The FP8 graph is our INT8 one for TensorRT with other numbers: the same tensors are quantized, and
the largest code is 448 in place of 127. What came out is in docs/decisions/0036.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import typer
from onnx import TensorProto, numpy_helper
from rich.table import Table

from benchmarks.command_line import finish
from exporter.artifact import Dialect, Precision
from exporter.graph.files import serialize
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import open_data
from exporter.models.sources import define
from exporter.progress import Terminal, make_console
from exporter.quantize.calibrate import calibrate
from exporter.targets.tensorrt.process import run_builder
from exporter.targets.tensorrt.request import LAYERS, PLAN, BuildRequest

Array = npt.NDArray[Any]

LARGEST: Final = 448.0
"""The largest number of E4M3."""
VARIANTS: Final = ("sm89", "sm120")
IMAGES: Final = 8
COLUMNS: Final = ("precision", "GPU", "error", "plan", "kernels", "read", "written", "sums")

app = typer.Typer(add_completion=False)


def to_fp8(int8: onnx.ModelProto, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """The graph with each S8 pair made an FP8 one; `weights` are those of the float graph."""
    model = onnx.ModelProto()
    model.CopyFrom(int8)
    constants = {constant.name: constant for constant in model.graph.initializer}
    scaled = set()
    for node in model.graph.node:
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        codes, scale, zero_point = node.input
        if scale not in scaled:
            scaled.add(scale)
            old = numpy_helper.to_array(constants[scale])
            new = (old.astype(np.float64) * 127.0 / LARGEST).astype(old.dtype)
            constants[scale].CopyFrom(numpy_helper.from_array(new, scale))
            zeros = np.zeros(tuple(constants[zero_point].dims), ml_dtypes.float8_e4m3fn)
            constants[zero_point].CopyFrom(numpy_helper.from_array(zeros, zero_point))
        if codes in constants and constants[codes].data_type == TensorProto.INT8:
            weight = weights[codes.removesuffix(".quantized")].astype(np.float32)
            factors = numpy_helper.to_array(constants[scale]).astype(np.float32)
            (axis,) = (attribute.i for attribute in node.attribute if attribute.name == "axis")
            shape = [-1 if index == axis else 1 for index in range(weight.ndim)]
            steps = np.clip(weight / factors.reshape(shape), -LARGEST, LARGEST)
            eight = steps.astype(ml_dtypes.float8_e4m3fn)
            constants[codes].CopyFrom(numpy_helper.from_array(eight, codes))
    del model.graph.value_info[:]  # they name the old type
    return model


def run(model: onnx.ModelProto, inputs: Array) -> Array:
    """ONNX Runtime's answer on the CPU, its optimizations off: Q/DQ as ONNX defines it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    answer: Array = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    return answer.astype(np.float64)


def built(model: onnx.ModelProto, variant: str) -> tuple[str, ...]:
    """What TensorRT-RTX makes of a graph: the columns after "error"."""
    with TemporaryDirectory() as folder:
        graph = Path(folder, "graph.onnx")
        onnx.save(model, graph)
        request = BuildRequest("tensorrt_rtx", str(graph), folder, variant, ((1, 1, 8),))
        run_builder(request, variant, lambda _: None)
        size = Path(folder, PLAN).stat().st_size
        text = Path(folder, LAYERS).read_text(encoding="utf-8")
    layers = [line for line in text.splitlines() if line.startswith("Name: ")]
    # A 1x1 convolution may be called a matrix product, or be one of several in a fusion.
    convs = [line for line in layers if re.search(r"ONNX Layer: \S*(conv|downsample)", line)]
    products = [line for line in convs if re.search("LayerType: (correlation|runtime_fus)", line)]
    return (
        f"{size / 1e6:.1f} MB",
        str(len(layers)),
        _types(products, "Inputs"),
        _types(products, "Outputs"),
        str(sum("add]" in line for line in products)),
    )


def _types(lines: list[str], side: str) -> str:
    """The type of each kernel's first input or output, counted."""
    found = (re.search(rf"{side}: \[.*?Datatype: (\w+)", line) for line in lines)
    counted = Counter(match[1] for match in found if match)
    return ", ".join(f"{count} {name}" for name, count in counted.most_common())


@app.command()
def compare(
    model: Annotated[str, typer.Option(help="A model, with random weights.")] = "resnet50",
    image_size: Annotated[int, typer.Option(min=32, help="Side of the input.")] = 224,
) -> None:
    """Builds each precision for each GPU and prints what the builder says of it."""
    console = make_console(stderr=True)
    progress = Terminal(console)
    defined = define(model, "random", image_size=image_size, progress=progress)
    images = open_data(defined.spec, None).calibration.take(IMAGES)
    graph, _ = optimize(export(defined))
    ranges = calibrate(graph, images, progress=progress)
    plain = onnx.load_from_string(serialize(graph))
    weights = {one.name: numpy_helper.to_array(one) for one in plain.graph.initializer}
    half = Lowering(Precision.FP16, Dialect.FLOAT)
    eight = Lowering(Precision.INT8, Dialect.S8_SYMMETRIC, ranges=ranges)
    graphs = {
        to.precision: onnx.load_from_string(serialize(lower(graph, to)[0])) for to in (half, eight)
    }
    made = {
        "FP16": graphs[Precision.FP16],
        "INT8": graphs[Precision.INT8],
        "FP8": to_fp8(graphs[Precision.INT8], weights),
    }
    inputs = np.concatenate(list(images.batches(IMAGES)))
    reference = run(plain, inputs)
    table = Table(*COLUMNS, title=f"{defined.spec.name} at {image_size} pixels, TensorRT-RTX")
    for name, lowered in made.items():
        error = np.linalg.norm(run(lowered, inputs) - reference) / np.linalg.norm(reference)
        for variant in VARIANTS:
            table.add_row(name, variant, f"{error:.2g}", *built(lowered, variant))
    console.print(table)


if __name__ == "__main__":
    finish(app, sys.argv[1:])
