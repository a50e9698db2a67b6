"""Q/DQ in FP8: valid, where INT8's for TensorRT stands, and about as near as E4M3 can be."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest

from benchmarks.placement import placement_of
from exporter.artifact import CalibrationMethod, Dialect, Precision
from exporter.graph.files import serialize
from exporter.graph.lower import Lowering, lower
from exporter.passes.qdq.arithmetic import dequantize, quantize_weight_e4m3, symmetric_e4m3
from exporter.passes.qdq.ranges import Ranges
from tests.graphs import graph, random, relative_error, run

E4M3 = ml_dtypes.float8_e4m3fn
CONV = "g (float[n,8,6,6] x) => (float[n,8,4,4] y) { y = Conv(x, w) }"
RANGES = Ranges(CalibrationMethod.MINMAX, 1, "", {"x": (-1.0, 1.0)})


@pytest.mark.parametrize("between", [Precision.FP32, Precision.FP16])
def test_it_is_the_placement_of_int8_with_other_codes(between: Precision) -> None:
    model = graph(CONV, w=random(8, 8, 3, 3, seed=1))
    protos = {}
    for precision, dialect in (
        (Precision.INT8, Dialect.S8_SYMMETRIC),
        (Precision.FP8, Dialect.E4M3_SYMMETRIC),
    ):
        to = Lowering(precision, dialect, ranges=RANGES, float_type=between)
        protos[precision] = onnx.load_from_string(serialize(lower(model, to)[0]))
    assert placement_of(protos[Precision.FP8]) == placement_of(protos[Precision.INT8])
    assert placement_of(protos[Precision.FP8]) == {"0,1": ["y"]}
    kinds = {one.name: one.data_type for one in protos[Precision.FP8].graph.initializer}
    assert kinds["w.quantized"] == onnx.TensorProto.FLOAT8E4M3FN
    assert onnx.TensorProto.INT8 not in kinds.values()


def test_its_numbers_are_as_near_as_three_bits_after_the_point() -> None:
    model = graph(CONV, w=random(8, 8, 3, 3, seed=1))
    to = Lowering(Precision.FP8, Dialect.E4M3_SYMMETRIC, ranges=RANGES)
    lowered, _ = lower(model, to)
    images = random(2, 8, 6, 6, seed=2)
    # At most 2**-4 of each factor, and such errors average out.
    assert 1e-3 < relative_error(run(lowered, images), run(model, images)) < 2.0**-4


def test_weights_are_rounded_to_the_nearest_number_of_e4m3() -> None:
    weight = random(3, 2, 1, 1, seed=3)
    weight[1] *= 100
    weight[2] = 0
    found = quantize_weight_e4m3(weight, 0, dtype=np.float32)
    assert found.codes.dtype == E4M3
    np.testing.assert_allclose(found.scale[:2], np.abs(weight[:2]).max((1, 2, 3)) / 448, rtol=1e-6)
    again = dequantize(found.codes, found.scale, 0)
    np.testing.assert_allclose(again, weight, rtol=2.0**-4)
    assert np.abs(found.codes.astype(np.float32)).max() == 448
    assert symmetric_e4m3(448.0).scale == 1
    assert symmetric_e4m3(0.0).scale == 1  # a tensor that is always zero


def test_a_convolution_of_the_image_stays_in_float() -> None:
    text = """g (float[n,3,6,6] x) => (float[n,8,2,2] y) {
        h = Conv(x, v)
        y = Conv(h, w)
    }"""
    model = graph(text, v=random(8, 3, 3, 3), w=random(8, 8, 3, 3, seed=1))
    ranges = Ranges(CalibrationMethod.MINMAX, 1, "", {"x": (-1.0, 1.0), "h": (-9.0, 9.0)})
    to = Lowering(Precision.FP8, Dialect.E4M3_SYMMETRIC, ranges=ranges)
    lowered, (report,) = lower(model, to)
    assert report.counts["convs"] == 1
    assert report.refused == (("h", "it reads the image, which is computed in float"),)
    assert placement_of(onnx.load_from_string(serialize(lowered))) == {"0,1": ["y"]}
