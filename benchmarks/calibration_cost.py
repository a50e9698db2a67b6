"""What a calibration costs: its peak of resident memory, and its time against plain inference.

    python -m benchmarks.calibration_cost resnet50 --samples 512

The comparison is the same images, one at a time, through the float32 engine with every residual
block's output exposed. Both run in this process, one after the other, the calibration first: the
peak is that of the calibration and of what came before it.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Annotated

import typer

from benchmarks.command_line import finish_alone
from exporter.graph.files import serialize
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.host import usable_threads
from exporter.images.samples import open_data
from exporter.models.sources import define
from exporter.passes.blocks import find_residual_blocks
from exporter.passes.expose_tensors import expose
from exporter.passes.values import dims
from exporter.progress import Silent, make_console
from exporter.quantize.calibrate import calibrate
from exporter.quantize.one_at_a_time import images
from exporter.targets.ort.session import OrtSession, make_session, session_options


def peak_rss_bytes() -> int:
    """Of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run(
    model_source: Annotated[str, typer.Argument(metavar="MODEL", help="As exporter export's.")],
    weights: Annotated[str, typer.Option(help="As exporter export's.")] = "auto",
    samples: Annotated[int, typer.Option(min=1, help="Images.")] = 512,
    seed: Annotated[int, typer.Option(help="Seeds weights and images.")] = 0,
) -> None:
    """Calibrate, then run the same images with every block's output on; compare."""
    model = define(model_source, weights, seed=seed, progress=Silent())
    graph, _ = optimize(export(model))
    chosen = open_data(model.spec, None, seed=seed).calibration.take(samples)
    shape = dims(graph.graph.inputs[0]) or ()
    before = peak_rss_bytes()
    start = time.perf_counter()
    calibrate(graph, chosen, progress=Silent())
    calibration_s = time.perf_counter() - start
    peak = peak_rss_bytes()
    exposed = graph.clone()
    expose(exposed, [block.output for block in find_residual_blocks(graph)])
    options = session_options(usable_threads())
    with OrtSession(make_session(serialize(exposed), options)) as session:
        start = time.perf_counter()
        for image in images(chosen, shape):
            session.run_named({model.spec.input.name: image})
        inference_s = time.perf_counter() - start
    make_console().print(
        f"{model.spec.name}, {chosen.count} images: calibration {calibration_s:.1f} s, float32 "
        f"inference with all block outputs {inference_s:.1f} s, ratio "
        f"{calibration_s / inference_s:.2f}; peak memory {peak / 1e9:.2f} GB "
        f"({before / 1e9:.2f} GB before)",
        markup=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    finish_alone(run)
