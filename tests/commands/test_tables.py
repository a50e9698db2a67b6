"""The terminal's tables of a build: they print whatever its manifest holds."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from exporter.artifact import ModelKind
from exporter.builds.records import Manifest
from exporter.commands import tables
from exporter.measure.timing import Latency
from exporter.models.variants import VARIANTS
from tests import manifests


def printed(manifest: Manifest) -> str:
    stream = io.StringIO()
    tables.engines(manifest, Console(file=stream, width=300))
    return stream.getvalue()


def line(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if name in line)


def test_the_fastest_engine_is_marked() -> None:
    text = printed(manifests.resnet50())
    assert "5.55x (5.44 to 5.66)" in line(text, "ort-cpu.int8 *")
    assert "built, not run here" in line(text, "tensorrt-rtx:sm89.fp16")


def test_figures_that_are_not_finite_are_printed() -> None:
    found = line(printed(manifests.not_finite()), "ort-cpu.fp16")
    assert "FAILED rel_l2 inf" in found
    assert "inf ms" in found
    assert "nanx (-inf to inf) unstable" in found


def test_an_engine_that_could_not_be_built_is_in_the_table() -> None:
    assert "FAILED to build" in line(printed(manifests.failed()), "openvino.fp16")


def test_the_heading_names_the_baseline() -> None:
    build = manifests.resnet50()
    assert "speedup over eager PyTorch" in printed(build)
    own = replace(build, model=replace(build.model, kind=ModelKind.ONNX))
    assert "speedup over the given file in ONNX Runtime, all optimizations on" in printed(own)


def test_the_baseline_of_the_run_and_what_disturbed_it_are_told() -> None:
    build = manifests.resnet50()
    assert "eager PyTorch, batch 1: p50 51.60 ms\n" in printed(build)
    calm, disturbed = (with_baseline(build, p90, load) for p90, load in ((52.5, 0.02), (90.0, 0.4)))
    assert "eager PyTorch, batch 1: p50 51.60 ms, p90 52.50 ms\n" in printed(calm)
    assert "other processes" not in printed(calm)
    assert "p90 90.00 ms (disturbed)" in printed(disturbed)
    assert "other processes took 40% of this machine's processor time" in printed(disturbed)


def with_baseline(build: Manifest, p90_ms: float, load: float) -> Manifest:
    """The build, its baseline's p90 and the other processes' load being these."""
    engines = [
        replace(e, latency=replace(e.latency, eager_p90_ms=p90_ms, other_load=load))
        if isinstance(e.latency, Latency)
        else e
        for e in build.engines
    ]
    return replace(build, engines=tuple(engines))


def test_trained_weights_are_never_called_random() -> None:
    stream = io.StringIO()
    tables.variants(VARIANTS, Console(file=stream, width=140))
    assert "embedded" in line(stream.getvalue(), "resnet20-digits")
    assert "random" in line(stream.getvalue(), " resnet20 ")
    rows = {row["name"]: row["weights"] for row in tables.variant_rows(VARIANTS)}
    assert rows["resnet20-digits"] == ["embedded"]


def test_what_to_do_next_is_what_can_be_done() -> None:
    folder = Path("build/my net")
    good, failed = manifests.resnet50(trained=True), manifests.failed()
    opened = "next: open 'build/my net/report.html'"
    assert tables.next_steps(folder, good) == f"{opened}; exporter pack 'build/my net'"
    untrained = tables.next_steps(folder, manifests.resnet50())
    assert untrained.startswith(f"{opened}; export with trained weights")
    assert failed.failures
    assert tables.next_steps(folder, failed).startswith(
        f"{opened}; exporter explain 'build/my net'"
    )


def test_flips_are_told_with_their_margins() -> None:
    """Of trained weights: those of random ones have no margin worth the name."""
    build = manifests.resnet50(trained=True)
    trained = replace(build, engines=tuple(replace(e, trained=True) for e in build.engines))
    assert (
        "ort-cpu.int8: 1 of 64 inputs change class (agreement 98.4%, at most 99.9%), at margins of "
        "0.021 (input 12); the median margin is 5.1"
    ) in printed(trained)
    assert "change class" not in printed(manifests.resnet50())
