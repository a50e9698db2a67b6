"""A stage that begins with strided 1x1 convolutions stays in 8 bits.

OpenVINO moves such strides itself, as a pool in float32 before what it makes of Q/DQ, and then
computes the convolutions behind it in float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.artifact import CalibrationMethod, Dialect, ElementType, Operation, Precision
from exporter.graph.files import save
from exporter.passes.qdq.insert import insert_qdq
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from exporter.targets import BuildOptions, get_target
from exporter.targets.ort.session import open_graph
from tests.graphs import graph, random
from tests.samples import samples_of

SHAPE = (3, 32, 32)
SUMS = {
    "plain": "a6 = Add (a5, r)",
    # The gate reads every position of a5, so that no stride can be moved before it.
    "gated": "g = GlobalAveragePool (a5) h = Sigmoid (g) m = Mul (a5, h) a6 = Add (m, r)",
}


@pytest.fixture(scope="module", params=SUMS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bottleneck and the first block of the next stage, as in the original ResNet-50, in INT8."""
    model = graph(
        f"""net (float[N,3,32,32] x) => (float[N,16,1,1] y) {{
            s = Conv <pads=[1,1,1,1]> (x, stem)
            r = Relu (s)
            a1 = Conv (r, w1)
            a2 = Relu (a1)
            a3 = Conv <pads=[1,1,1,1]> (a2, w3)
            a4 = Relu (a3)
            a5 = Conv (a4, w1)
            {SUMS[request.param]}
            a7 = Relu (a6)
            b1 = Conv <strides=[2,2]> (a7, w1)
            b2 = Relu (b1)
            b3 = Conv <pads=[1,1,1,1]> (b2, w3)
            b4 = Relu (b3)
            b5 = Conv (b4, w1)
            b6 = Conv <strides=[2,2]> (a7, w1)
            b7 = Add (b5, b6)
            b8 = Relu (b7)
            y = GlobalAveragePool (b8)
        }}""",
        stem=random(16, 3, 3, 3, seed=1),
        w1=random(16, 16, 1, 1, seed=2),
        w3=random(16, 16, 3, 3, seed=3),
    )
    images = random(4, *SHAPE, seed=4, low=-2.0, high=2.5)
    ranges = calibrate(
        model, samples_of(images), method=CalibrationMethod.MINMAX, progress=Silent()
    )
    insert_qdq(model, ranges, Dialect.U8_ASYMMETRIC)
    path = tmp_path_factory.mktemp("network") / "int8.onnx"
    save(model, path)
    return path


@pytest.mark.parametrize("name", ["openvino", "ort-cpu"])
def test_every_convolution_is_in_8_bits_and_the_answer_is_the_graphs(
    network: Path, tmp_path: Path, name: str
) -> None:
    target = get_target(name)
    built = target.build(network, Precision.INT8, tmp_path / "int8", BuildOptions())
    kernels, _ = target.kernels(built.files[0])
    convs = [kernel for kernel in kernels if Operation.CONV in kernel.does]
    assert len(convs) == 8
    assert {kernel.dtype for kernel in convs} == {ElementType.INT8}
    pools = [kernel.dtype for kernel in kernels if Operation.MAXPOOL in kernel.does]
    assert set(pools) <= {ElementType.INT8, ElementType.UINT8}
    images = random(2, *SHAPE, seed=5, low=-2.0, high=2.5)
    with target.open(built.files[0], 1) as engine, open_graph(network, 1) as given:
        answer, expected = engine.run(images), given.run(images)
    assert np.linalg.norm(answer - expected) < 5e-2 * np.linalg.norm(expected)
