"""What our own build of a network reaches, measured beside an engine that was given.

Both are timed in one interleaved run. Calibration sees a few synthetic images: ranges change no
time. Nothing is proved here; that is what `exporter export` is for.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.artifact import Model, Precision, Skipped
from exporter.errors import BuildError, ExporterError
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import open_data
from exporter.measure.interleaved import EngineToMeasure, baseline_of, measure
from exporter.measure.timing import Conditions, Latency
from exporter.models.onnx_file import load_onnx
from exporter.passes.blocks import GraphFacts, find_residual_blocks
from exporter.progress import Progress, Silent
from exporter.prove.certificate import Receipt
from exporter.prove.read_back import receipt_of
from exporter.quantize.calibrate import calibrate
from exporter.targets import BuildOptions, Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.passes.qdq.ranges import Ranges

IMAGES: Final = 4
"""How many synthetic images calibrate."""
ROUNDS: Final = 15
"""Interleaved rounds."""


@dataclass(frozen=True)
class OwnBuild:
    """Our build of the same network for the same target."""

    receipt: Receipt
    given_ms: float | None
    """The given engine's median, or what it should take where it does not run here; None: there is
    none, or neither is known."""
    own_ms: float | None
    measured: bool = True
    """Else the times are predicted for the target's GPU."""

    @property
    def in_words(self) -> str:
        """What it reaches, beside the given engine."""
        said = f"receipt {self.receipt.verdict}"
        if self.own_ms is None:
            return f"{said}; it does not run here, and nothing is known of its time"
        how = (
            "medians of one interleaved run" if self.measured else "predicted for the target's GPU"
        )
        if self.given_ms is None:
            return f"{_shown(self.own_ms)} ms ({how}, batch 1 or the file's own; {said})"
        ratio = self.given_ms / self.own_ms
        gain = f"{ratio:.2f}x as fast" if ratio >= 1 else f"{1 / ratio:.2f}x slower"
        return (
            f"{_shown(self.own_ms)} ms, the given one {_shown(self.given_ms)} ms: {gain} "
            f"({how}, batch 1 or the file's own; {said})"
        )


def _shown(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds >= 0.1 else f"{milliseconds:.2g}"


def build_own(
    target: Target,
    precision: Precision,
    network: Path,
    given: Path | None,
    threads: int,
    progress: Progress,
) -> OwnBuild | Skipped:
    """Builds the float32 `network` as `exporter export` would and times it beside `given`.

    None: there is no engine of what was given.
    """
    try:
        with (
            progress.stage("build the same network ourselves"),
            tempfile.TemporaryDirectory(prefix="exporter-own-") as scratch,
        ):
            model = load_onnx(network)
            graph, reports = optimize(export(model))
            facts = GraphFacts.of(graph, reports, find_residual_blocks(graph))
            ranges = _ranges(model, graph) if precision.quantized else None
            to = Lowering(precision, target.dialect(precision), ranges=ranges)
            lowered, _ = lower(graph, to)
            path = Path(scratch) / "lowered.onnx"
            save(lowered, path)
            engine = target.build(path, precision, Path(scratch) / "own", BuildOptions()).files[0]
            receipt = receipt_of(facts, target, precision, engine, ())
            if target.runs_here() is not None:
                before = None if given is None else _predicted(target, given, precision)
                after = _predicted(target, engine, precision)
                return OwnBuild(receipt, before, after, measured=False)
            engines = {"own": engine} if given is None else {"given": given, "own": engine}
            return _timed(model, target, engines, receipt, threads)
    except ExporterError as error:
        return Skipped(f"there is none to compare with: {error}")


def _ranges(model: Model, graph: ir.Model) -> Ranges:
    samples = open_data(model.spec, None, progress=Silent()).calibration.take(IMAGES)
    return calibrate(graph, samples, progress=Silent())


def _predicted(target: Target, engine: Path, precision: Precision) -> float | None:
    """Milliseconds, on the first GPU that the target predicts for."""
    predictions, _ = target.predict(engine, precision, (1,))
    return predictions[0].time_ms if predictions else None


def _timed(
    model: Model, target: Target, engines: dict[str, Path], receipt: Receipt, threads: int
) -> OwnBuild:
    batch = model.spec.input.shape[0]
    conditions = Conditions(threads, ROUNDS, 0, (batch if isinstance(batch, int) else 1,))
    measured = measure(
        [EngineToMeasure(name, target.name, path) for name, path in engines.items()],
        baseline_of(model),
        conditions,
        Silent(),
    )
    times = {}
    for name, latencies in measured.latencies.items():
        (latency,) = latencies.values()
        if not isinstance(latency, Latency):
            raise BuildError(f"{name}: {latency.skipped}")
        times[name] = latency.p50_ms
    return OwnBuild(receipt, times.get("given"), times["own"])
