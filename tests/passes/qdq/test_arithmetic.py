"""The numbers of quantization, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.passes.qdq.arithmetic import (
    LARGEST_BIAS,
    asymmetric_u8,
    dequantize,
    quantize_bias,
    quantize_weight,
    symmetric_s8,
)
from tests.graphs import random


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (-3.7, 0.0), (-1e-6, 5.0), (-2.0, 1e-7)])
def test_asymmetric_holds_the_range_and_zero_exactly(low: float, high: float) -> None:
    numbers = asymmetric_u8(low, high)
    scale, zero_point = float(numbers.scale), int(numbers.zero_point)
    assert numbers.scale.dtype == np.float32
    assert numbers.zero_point.dtype == np.uint8
    ends = np.clip(np.rint(np.array([low, high]) / scale) + zero_point, 0, 255)
    assert (ends - zero_point) * scale == pytest.approx([low, high], abs=scale)
    assert scale == pytest.approx((high - low) / 255, rel=1e-6)


def test_what_starts_at_zero_has_zero_point_zero_and_uses_all_codes() -> None:
    numbers = asymmetric_u8(0.0, 6.375)
    assert (float(numbers.scale), int(numbers.zero_point)) == (float(np.float32(0.025)), 0)


def test_symmetric_has_zero_point_zero_in_int8() -> None:
    numbers = symmetric_s8(2.54)
    assert (float(numbers.scale), int(numbers.zero_point)) == (float(np.float32(0.02)), 0)
    assert numbers.zero_point.dtype == np.int8


def test_a_tensor_of_zeros_gets_a_scale_that_can_be_divided_by() -> None:
    assert float(asymmetric_u8(0.0, 0.0).scale) > 0.0
    assert float(symmetric_s8(0.0).scale) > 0.0


def test_weights_are_within_half_a_step_of_their_channels_scale() -> None:
    weight = random(5, 4, 3, 3) * np.geomspace(1e-3, 10, 5, dtype=np.float32)[:, None, None, None]
    result = quantize_weight(weight, 0)
    assert result.scale == pytest.approx(np.abs(weight).max(axis=(1, 2, 3)) / 127)
    error = np.abs(dequantize(result.codes, result.scale, 0) - weight).max(axis=(1, 2, 3))
    assert (error <= result.scale * 0.5001).all()
    assert np.abs(result.codes).max(axis=(1, 2, 3)).tolist() == [127] * 5
    assert result.raised == 0


def test_the_axis_is_the_output_channels() -> None:
    weight = np.array([[1.0, 100.0], [2.0, 200.0]], np.float32)
    assert quantize_weight(weight, 1).scale == pytest.approx([2 / 127, 200 / 127])


def test_the_bias_scale_is_the_float32_product_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    for x_scale in rng.uniform(1e-4, 1.0, 50).astype(np.float32):
        weight_scale = rng.uniform(1e-6, 1e-1, 64).astype(np.float32)
        bias = rng.standard_normal(64).astype(np.float32)
        codes, scale = quantize_bias(bias, x_scale, weight_scale)
        assert codes.dtype == np.int32
        expected = np.array([x_scale * one for one in weight_scale], np.float32)
        assert scale.tobytes() == expected.tobytes()
        assert np.abs(codes * scale.astype(np.float64) - bias).max() <= scale.max() / 2


def test_a_near_dead_channels_scale_is_raised_until_its_bias_fits() -> None:
    weight = random(3, 8, 3, 3)
    weight[1] = 1e-9
    bias = np.array([0.5, -3.0, 0.25], np.float32)
    x_scale = np.float32(1e-2)
    result = quantize_weight(weight, 0, bias=bias, x_scale=x_scale)
    codes, scale = quantize_bias(bias, x_scale, result.scale)
    assert result.raised == 1
    assert abs(int(codes[1])) <= LARGEST_BIAS
    assert (np.abs(codes * scale.astype(np.float64) - bias) <= scale).all()
    assert codes[1] * float(scale[1]) == pytest.approx(-3.0, rel=1e-6)
    alone = quantize_weight(weight, 0)
    assert result.scale[[0, 2]].tobytes() == alone.scale[[0, 2]].tobytes()


def test_a_dead_channel_keeps_its_bias() -> None:
    weight = np.zeros((2, 4, 1, 1), np.float32)
    bias = np.array([7.0, 0.0], np.float32)
    result = quantize_weight(weight, 0, bias=bias, x_scale=np.float32(0.1))
    codes, scale = quantize_bias(bias, np.float32(0.1), result.scale)
    assert (scale > np.finfo(np.float32).tiny).all()
    assert codes * scale.astype(np.float64) == pytest.approx(bias, rel=1e-6)


def test_float16_scales_are_rounded_before_the_codes_and_never_clip() -> None:
    weight = random(64, 16, 1, 1) * np.float32(1e-4)  # scales near FP16's smallest numbers
    result = quantize_weight(weight, 0, dtype=np.float16)
    assert result.scale.dtype == np.float16
    scale = result.scale.astype(np.float64)
    largest = np.abs(weight).max(axis=(1, 2, 3))
    assert (scale * 127 >= largest).all()
    error = np.abs(dequantize(result.codes, result.scale, 0) - weight).max(axis=(1, 2, 3))
    assert (error <= scale * 0.5001).all()
