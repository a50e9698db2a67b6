"""Networks lowered for TensorRT-RTX, their plans and their receipts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.artifact import Dialect, Precision
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import open_data
from exporter.models.sources import define
from exporter.passes.blocks import GraphFacts, find_residual_blocks
from exporter.progress import Silent
from exporter.prove.certificate import Receipt
from exporter.prove.receipt import make_receipt
from exporter.quantize.calibrate import calibrate
from exporter.targets import BuildOptions, Target, get_target
from exporter.targets.tensorrt.arithmetic import DIALECTS


@dataclass(frozen=True)
class Lowered:
    """A model's lowered files and what a receipt counts against."""

    files: dict[Precision, Path]
    facts: GraphFacts


def lowered(name: str, folder: Path, image_size: int | None, precisions: str) -> Lowered:
    model = define(name, "random", image_size=image_size, progress=Silent())
    graph, reports = optimize(export(model))
    facts = GraphFacts.of(graph, reports, find_residual_blocks(graph))
    files = {}
    for precision in map(Precision, precisions.split()):
        ranges = None
        dialect = Dialect.FLOAT
        if precision.quantized:
            dialect = DIALECTS[precision]
            images = open_data(model.spec, None).calibration.take(4)
            ranges = calibrate(graph, images, progress=Silent())
        low, _ = lower(graph, Lowering(precision, dialect, ranges=ranges))
        files[precision] = folder / f"{name}.{precision}.onnx"
        save(low, files[precision])
    return Lowered(files, facts)


def build(
    graph: Path, precision: Precision, folder: Path, target: str = "tensorrt-rtx:sm89", **given: str
) -> Path:
    out = folder / str(precision)
    result = get_target(target).build(graph, precision, out, BuildOptions(settings=given))
    assert [path.name for path in result.files] == [f"{precision}.plan", f"{precision}.layers.txt"]
    return result.files[0]


def receipt(
    plan: Path, precision: Precision, facts: GraphFacts, target: str = "tensorrt-rtx:sm89"
) -> Receipt:
    found = receipt_of(get_target(target), plan, precision, facts)
    assert "ahead-of-time" in found.source
    return found


def receipt_of(target: Target, engine: Path, precision: Precision, facts: GraphFacts) -> Receipt:
    """What is read back from an engine's file.

    Raises:
        UnreadableKernels: it tells nothing.
    """
    kernels, source = target.kernels(engine)
    return make_receipt(
        kernels,
        source,
        graph_facts=facts,
        precision=precision,
        dialect=target.dialect(precision),
        expected=target.expected(precision),
    )
