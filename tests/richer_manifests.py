"""Builds that were asked more than most: under load, on a gate's images, for a mix."""

from __future__ import annotations

from dataclasses import replace

from exporter.artifact import (
    Precision,
    Skipped,
)
from exporter.builds.records import (
    Manifest,
)
from exporter.measure.throughput import QUANTILES, ServedPoint, Throughput, with_best
from exporter.measure.timing import Speedup
from exporter.prove.gate_record import Decision, Decoders, Gate, GatedEngine, GateFlip
from exporter.search.budget import BudgetKind
from exporter.search.record import FrontPoint, MixedSearch
from tests.manifests import resnet50


def calls(median_ms: float) -> tuple[float, ...]:
    """QUANTILES of a call's time with a short tail."""
    return tuple(median_ms * (0.95 + 0.1 * level + 0.3 * level**30) for level in QUANTILES)


def under_load(max_p99_ms: float | None = None) -> Manifest:
    """`resnet50` with what several layouts of two engines answer on two cores."""
    shapes = {(1, 1, 2): 1.0, (2, 1, 1): 1.2, (1, 2, 1): 1.18}
    points = [
        ServedPoint(
            engine, *shape, batch, 30, images_per_s=rate * gain, p50_ms=1900 * batch / rate / gain,
            p99_ms=2100 * batch / rate / gain, gain=Speedup(gain, (0.98 * gain, 1.02 * gain)),
            calls_ms=calls(1000 * shape[0] * shape[1] * batch / rate / gain),
            alone_ms=() if gain == 1 else calls(980 * shape[0] * shape[1] * batch / rate / gain),
        )
        for engine, rate in (("ort-cpu.int8", 90.0), ("openvino.int8", 84.0))
        for shape, gain in shapes.items()
        for batch in (1, 8)
    ]  # fmt: skip
    return replace(
        resnet50(),
        throughput=Throughput(
            2, 2, 0.5, with_best(points, max_p99_ms), max_p99_ms, other_load=0.01,
            left_out={"ort-cpu.int8 4 x 1": Skipped("no memory")},
        ),
    )  # fmt: skip


def gated() -> Manifest:
    """`resnet50` with an engine that passed the gate, one that failed, and one in between."""
    flip = GateFlip("cat/7.jpg", "cat", "dog", "cat", 0.31, "data:image/jpeg;base64,/9j/4AAQ")
    engines = (
        GatedEngine("ort-cpu.fp32", Decision.PASS, 540, 0, 0, 0.0, 0.0055),
        GatedEngine(
            "ort-cpu.int8", Decision.FAIL, 538, 2, 40, 0.0568, 0.0953, 31, 4, 0.91, 0.96,
            0.0312, 0.0702, flipped=(flip, replace(flip, label="", thumbnail="")),
        ),
        GatedEngine("openvino.int8", Decision.UNDECIDED, 540, 0, 3, 0.0015, 0.0143,
                    more_images=1800, flipped=(flip,)),
    )  # fmt: skip
    gate = Gate("folder held-out", 540, "0" * 64, "the float32 graph", 0.005, 0.01, 0.95, engines,
                ("x.png cannot be read as a picture",), ("a note",),
                Decoders("Pillow", "OpenCV", 538, 2, 7, 0.96, 0.95, (flip,)))  # fmt: skip
    return replace(resnet50(), gate=gate)


def mixed(kind: BudgetKind = BudgetKind.MIN_SQNR) -> Manifest:
    """`resnet50` with an engine whose blocks in FP32 were searched for."""
    limit, found = (30.0, 31.2) if kind is BudgetKind.MIN_SQNR else (0.01, 0.0035)
    labelled = kind is BudgetKind.MAX_DROP
    points = [
        FrontPoint(
            kept, ms, rel_l2=10 ** (-decibels / 20), sqnr_db=decibels, agreement=0.99,
            drop=0.002 if labelled else Skipped("the inputs have no labels"),
        )
        for kept, ms, decibels in (
            ((), 11.0, 26.7), (("stem",), 11.2, 27.1), (("layer1.0",), 11.9, 29.3),
            (("layer1.0", "head"), 12.0, 31.5),
        )
    ]  # fmt: skip
    search = MixedSearch(
        kind, limit, found, ("layer1.0", "head"), ("layer1.0", "fc"), 32, 32, 1, 11.0, 12.0, 31,
        tuple(points),
    )  # fmt: skip
    manifest = resnet50()
    int8 = manifest.engine("ort-cpu.int8")
    assert int8 is not None
    engine = replace(int8, id="ort-cpu.mixed", precision=Precision.MIXED, search=search)
    return replace(manifest, engines=(*manifest.engines, engine))
