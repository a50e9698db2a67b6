"""Which tensors INT8 quantizes for TensorRT: ours beside NVIDIA ModelOpt's, of the same ONNX.

    python -m benchmarks.placement            # writes tests/reference/modelopt_placement.json

A placement says which inputs of which nodes come out of a DequantizeLinear. ModelOpt runs in an
environment of its own (`modelopt.py`); what it answered is kept, so that a test can compare our
graph with it where ModelOpt is not. Weights are random: a placement depends on the graph alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import onnx
import typer

from benchmarks import modelopt
from benchmarks.command_line import finish_alone
from exporter.artifact import Dialect, Precision
from exporter.disk.writing import write_whole
from exporter.graph.files import serialize
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import Samples, open_data
from exporter.models.sources import define
from exporter.progress import Progress, Terminal, make_console
from exporter.quantize.calibrate import calibrate

NETWORKS: Final = ("resnet18", "resnet50", "resnext50_32x4d", "benchmarks.networks:resnet26d")
REFERENCE: Final = Path("tests/reference/modelopt_placement.json")
IMAGES: Final = 4
QDQ: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})

Placement = dict[str, list[str]]
"""Which inputs are dequantized ("0,1") -> the nodes of which that is so; none: not in it."""


def placement_of(model: onnx.ModelProto) -> Placement:
    """What is quantized in a graph with Q/DQ; nodes by the name that the float graph gave them."""
    writers = {output: node.op_type for node in model.graph.node for output in node.output}
    found: Placement = {}
    for node in model.graph.node:
        inputs = [
            str(index)
            for index, name in enumerate(node.input)
            if writers.get(name) == "DequantizeLinear"
        ]
        if inputs and node.op_type not in QDQ:
            found.setdefault(",".join(inputs), []).append(node.name)
    return {inputs: sorted(nodes) for inputs, nodes in sorted(found.items())}


def ours(
    source: str, image_size: int, progress: Progress
) -> tuple[onnx.ModelProto, bytes, Samples]:
    """Our INT8 graph of a network, the float graph that it was made of, and the images."""
    model = define(source, "random", image_size=image_size, progress=progress)
    samples = open_data(model.spec, None).calibration.take(IMAGES)
    graph, _ = optimize(export(model))
    ranges = calibrate(graph, samples, progress=progress)
    lowered, _ = lower(graph, Lowering(Precision.INT8, Dialect.S8_SYMMETRIC, ranges=ranges))
    return onnx.load_from_string(serialize(lowered)), serialize(graph), samples


def modelopts(graph: bytes, samples: Samples, progress: Progress) -> onnx.ModelProto:
    """ModelOpt's INT8 graph of the same float graph."""
    with TemporaryDirectory() as folder:
        given, made = Path(folder) / "net" / "plain.onnx", Path(folder) / "int8.onnx"
        given.parent.mkdir()
        given.write_bytes(graph)
        return onnx.load(modelopt.quantize(given, samples, made, progress))


def record(
    out: Annotated[Path, typer.Option(help="The list to write.")] = REFERENCE,
    image_size: Annotated[int, typer.Option(min=32, help="Side of the input.")] = 224,
) -> None:
    """Quantizes each network with ModelOpt and keeps which tensors it chose."""
    progress = Terminal(make_console(stderr=True))
    recorded = {}
    for source in NETWORKS:
        _, graph, samples = ours(source, image_size, progress)
        recorded[source] = placement_of(modelopts(graph, samples, progress))
    content = {"made_by": modelopt.REQUIREMENT, "placements": recorded}
    write_whole(out, json.dumps(content, indent=1) + "\n")
    progress.note(f"written: {out}")


if __name__ == "__main__":
    finish_alone(record)
