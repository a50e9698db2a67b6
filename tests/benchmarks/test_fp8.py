"""The FP8 graph of the experiment: valid, the same placement, and about as near as E4M3 can be."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from benchmarks.fp8 import run, to_fp8
from benchmarks.placement import placement_of
from exporter.artifact import CalibrationMethod, Dialect, Precision, Ranges
from exporter.graph.files import serialize
from exporter.graph.lower import Lowering, lower
from tests.graphs import graph, random


def test_every_pair_becomes_one_of_fp8() -> None:
    weight = random(8, 4, 3, 3, seed=1)
    model = graph(
        "g (float[n,4,6,6] x) => (float[n,8,4,4] y) { y = Conv(x, w) }",
        w=weight,
    )
    ranges = Ranges(CalibrationMethod.MINMAX, 1, "", {"x": (-1.0, 1.0)})
    lowered, _ = lower(model, Lowering(Precision.INT8, Dialect.S8_SYMMETRIC, ranges=ranges))
    int8 = onnx.load_from_string(serialize(lowered))
    fp8 = to_fp8(int8, {"w": weight})
    onnx.checker.check_model(fp8, full_check=True)
    assert placement_of(fp8) == placement_of(int8) == {"0,1": ["y"]}
    kinds = {constant.name: constant.data_type for constant in fp8.graph.initializer}
    assert kinds["w.quantized"] == TensorProto.FLOAT8E4M3FN
    assert TensorProto.INT8 not in kinds.values()
    scales = [numpy_helper.to_array(c) for c in fp8.graph.initializer if c.name == "x.scale"]
    np.testing.assert_allclose(scales, 1.0 / 448.0, rtol=1e-6)
    images = random(2, 4, 6, 6, seed=2)
    exact = run(onnx.load_from_string(serialize(model)), images)
    error = np.linalg.norm(run(fp8, images) - exact) / np.linalg.norm(exact)
    # Three bits after the point: at most 2**-4 of each factor, and such errors average out.
    assert 1e-3 < error < 2.0**-4
