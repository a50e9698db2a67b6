"""Engines on a real GPU: built, read back, compared with the graph on the CPU, timed.

`make test-gpu` runs exactly these and writes build/gpu-tests.xml, a report to attach; what each
engine was found to be is in it as properties. Without a GPU every test is skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from exporter import host
from exporter.artifact import Precision, Verdict
from exporter.errors import MissingDependencyError, UsageError
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import open_data
from exporter.models.sources import define
from exporter.passes.blocks import GraphFacts, find_residual_blocks
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from exporter.targets import Array, BuildOptions, Target, UnreadableKernels, get_target
from exporter.targets.ort.session import OrtSession, open_graph
from tests.targets.tensorrt.plans import receipt_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(host.describe_host().gpu is None, reason="no NVIDIA driver answers here"),
]

# Relative L2 error against the lowered graph on the CPU, unoptimized. INT8 rounds differently.
LIMITS = {Precision.FP32: 1e-5, Precision.FP16: 5e-3, Precision.INT8: 0.1}
PAIRS = [
    (target, precision)
    for target in ("tensorrt", "tensorrt-rtx", "ort-cuda", "ort-tensorrt")
    for precision in Precision
]

Lower = Callable[[Target, Precision], Path]


@pytest.fixture(scope="module")
def facts_and_lower(tmp_path_factory: pytest.TempPathFactory) -> tuple[GraphFacts, Lower]:
    """ResNet-18 at 64 x 64 pixels, lowered as each target wants it."""
    folder = tmp_path_factory.mktemp("lowered")
    model = define("resnet18", "random", image_size=64, progress=Silent())
    graph, reports = optimize(export(model))
    images = open_data(model.spec, None).calibration.take(8)
    ranges = calibrate(graph, images, progress=Silent())

    def lower_for(target: Target, precision: Precision) -> Path:
        dialect = target.dialect(precision)
        path = folder / f"{precision}-{dialect}.onnx"
        if not path.exists():
            quantized = precision is Precision.INT8
            low, _ = lower(
                graph, Lowering(precision, dialect, ranges=ranges if quantized else None)
            )
            save(low, path)
        return path

    return GraphFacts.of(graph, reports, find_residual_blocks(graph)), lower_for


def the_target(name: str, precision: Precision) -> Target:
    try:
        target = get_target(name)
        target.dialect(precision)
    except (MissingDependencyError, UsageError) as error:
        pytest.skip(str(error))
    return target


def images(batch: int) -> Array:
    return np.random.RandomState(batch).standard_normal((batch, 3, 64, 64)).astype(np.float32)


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_engine(
    name: str,
    precision: Precision,
    facts_and_lower: tuple[GraphFacts, Lower],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    facts, lower_for = facts_and_lower
    target = the_target(name, precision)
    graph = lower_for(target, precision)
    result = target.build(graph, precision, tmp_path / str(precision), BuildOptions())
    record_property("gpu", host.describe_host().gpu)
    record_property("requires", result.requires)
    try:
        receipt = receipt_of(target, result.files[0], precision, facts)
    except UnreadableKernels as reason:
        record_property("receipt", f"unverified: {reason}")
        assert target.expected(precision) is Verdict.UNVERIFIED
    else:
        record_property("receipt", f"{receipt.verdict}: {receipt.reason}")
        order = (Verdict.UNVERIFIED, Verdict.PARTIAL, Verdict.FUSED)
        assert order.index(receipt.verdict) >= order.index(receipt.expected), receipt.reason
    skipped = target.runs_here()
    if skipped is not None:
        pytest.skip(skipped.skipped)
    with target.open(result.files[0], 1) as session, open_graph(graph, 1) as exact:
        for batch in (1, 2, 8):
            inputs = images(batch)
            expected = exact.run(inputs)
            error = np.linalg.norm(session.run(inputs) - expected) / np.linalg.norm(expected)
            record_property(f"rel_l2 at batch {batch}", float(error))
            assert error < LIMITS[precision]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_a_graph_computes_what_it_is_given_now(
    precision: Precision, facts_and_lower: tuple[GraphFacts, Lower], tmp_path: Path
) -> None:
    """From any thread, at any batch size, in any order: nothing of an earlier call is left."""
    _, lower_for = facts_and_lower
    target = the_target("ort-cuda", precision)
    graph = lower_for(target, precision)
    built = target.build(graph, precision, tmp_path / str(precision), BuildOptions())
    given = [images(batch) * scale for scale in (1, 0.5) for batch in (1, 3, 2, 3, 1)]
    given += [images(batch) for batch in range(4, 24)]  # more sizes than graphs are kept
    with (
        target.open(built.files[0], 1) as session,
        open_graph(graph, 2) as exact,
        ThreadPoolExecutor(4) as callers,
    ):
        assert isinstance(session, OrtSession)
        assert session.replays_cuda_graphs
        for inputs, found in zip(given, callers.map(session.run, given), strict=True):
            expected = exact.run(inputs)
            error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            assert error < LIMITS[precision], inputs.shape


def test_the_timing_cache_makes_the_second_build_faster(
    facts_and_lower: tuple[GraphFacts, Lower], tmp_path: Path
) -> None:
    _, lower_for = facts_and_lower
    target = the_target("tensorrt", Precision.FP16)
    graph = lower_for(target, Precision.FP16)
    options = BuildOptions(settings={"timing_cache": str(tmp_path / "cache")})
    seconds = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        built = target.build(graph, Precision.FP16, tmp_path / name / "fp16", options)
        seconds.append(built.requires["build"]["seconds"])
    assert len(list((tmp_path / "cache").glob("tensorrt-*.cache"))) == 1
    assert seconds[1] < seconds[0]
