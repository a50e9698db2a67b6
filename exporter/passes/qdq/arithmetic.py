"""The numbers of quantization: scales, zero points and codes. No graph in here.

    q = clip(round_half_even(x / scale) + zero_point),    x ~ (q - zero_point) * scale

Activations, u8 asymmetric:  scale = (max - min) / 255,   zero_point = round(-min / scale)
Activations, s8 symmetric:   scale = largest / 127,   zero_point = 0
In FP8 (E4M3) instead of S8: 448, its largest number, in place of 127; codes are FP8 numbers
Weights, s8 per channel:     scale[c] = max |w[c]| / 127,   codes in -127..127
    with a reduced range:    scale[c] = max |w[c]| / 64,    codes in -64..64
Bias, s32 per channel:       scale[c] = x_scale * weight_scale[c], in float32 exactly: ONNX Runtime
                             fuses a convolution only if the product is equal to the last bit

A channel whose weights are near zero would have so small a scale that its bias does not fit 32
bits, or that the product of scales is no normal number. Its weight scale is raised until both do;
its weights then round to zero, which they are next to the bias.

Everything is computed in float32, as the runtimes do. Source: ONNX QuantizeLinear-21 and
DequantizeLinear-21; Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

LARGEST_BIAS: Final = 2**30
"""The largest int32 code of a bias: as much again is left for the products that are added to it."""
LARGEST_CODE: Final = 127
"""The largest int8 code of a weight."""
LARGEST_FP8: Final = 448.0
"""The largest number of E4M3 (Micikevicius et al. 2022, "FP8 Formats for Deep Learning")."""
LARGEST_REDUCED_CODE: Final = 64
"""The largest code of a weight in 7 bits: two products with the largest U8, 2 * 255 * 64, fit the
16 bits in which x86 CPUs without VNNI add pairs of them."""
_TINY: Final = float(np.finfo(np.float32).tiny)
"""The smallest normal number of float32, below which products lose bits or are flushed to zero."""
_TINY_HALF: Final = float(np.finfo(np.float16).smallest_subnormal)
"""The smallest float16 that is not zero."""


@dataclass(frozen=True)
class Activation:
    """The scale and zero point of one activation tensor."""

    scale: np.floating[Any]
    zero_point: Any
    """A numpy scalar of the codes' type."""


@dataclass(frozen=True)
class Weight:
    """Per-channel codes of a weight, with one scale and a zero point of 0 for each channel."""

    codes: npt.NDArray[Any]
    """int8, or FP8."""
    scale: Floats
    raised: int
    """Channels whose scale had to be raised for the bias' sake."""


def asymmetric_u8(minimum: float, maximum: float) -> Activation:
    """(minimum, maximum), zero included, on 0..255; zero is exact.

    A minimum of exactly zero gives zero point 0, which is what lets a runtime absorb the Relu.
    """
    scale = np.float32((maximum - minimum) / 255.0)
    if scale < _TINY:
        return Activation(np.float32(1.0), np.uint8(0))  # a tensor that is always zero
    zero_point = np.clip(np.rint(-minimum / float(scale)), 0, 255)
    return Activation(scale, np.uint8(zero_point))


def symmetric_s8(largest: float, dtype: npt.DTypeLike = np.float32) -> Activation:
    """(-largest, largest) on -127..127; the scale in float32 or float16."""
    return Activation(_symmetric_scale(largest / LARGEST_CODE, dtype), np.int8(0))


def symmetric_e4m3(largest: float, dtype: npt.DTypeLike = np.float32) -> Activation:
    """(-largest, largest) on the numbers of E4M3; the scale in float32 or float16."""
    zero = ml_dtypes.float8_e4m3fn(0)
    return Activation(_symmetric_scale(largest / LARGEST_FP8, dtype), zero)


def quantize_weight(
    weight: Floats,
    axis: int,
    *,
    bias: Floats | None = None,
    x_scale: np.floating[Any] | None = None,
    dtype: npt.DTypeLike = np.float32,
    largest_code: int = LARGEST_CODE,
) -> Weight:
    """Symmetric codes of a weight, one scale for each index of `axis`.

    With `bias` (C,) and `x_scale`, scales are raised where the int32 bias needs it. `dtype` is what
    the scales are kept in; they are rounded before the codes are computed, never after.
    """
    rest = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=rest).astype(np.float64)
    scale = largest / largest_code
    needed = np.full_like(scale, _TINY)
    if x_scale is not None:
        needed = np.full_like(scale, 2.0 * _TINY / float(x_scale))
        if bias is not None:
            of_bias = np.abs(bias.astype(np.float64)) / (float(x_scale) * LARGEST_BIAS)
            needed = np.maximum(needed, of_bias)
    scale = np.where(largest > 0.0, scale, needed)
    raised = scale < needed
    rounded = _scale_of(np.maximum(scale, needed), dtype)
    shape = tuple(-1 if i == axis else 1 for i in range(weight.ndim))
    steps = weight.astype(np.float32) / rounded.astype(np.float32).reshape(shape)
    codes = np.clip(np.rint(steps), -largest_code, largest_code).astype(np.int8)
    return Weight(codes, rounded, int(raised.sum()))


def quantize_weight_e4m3(weight: Floats, axis: int, *, dtype: npt.DTypeLike) -> Weight:
    """FP8 codes of a weight, one scale for each index of `axis`, rounded to nearest even."""
    rest = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=rest).astype(np.float64)
    scale = _scale_of(np.maximum(largest / LARGEST_FP8, _TINY), dtype)
    shape = tuple(-1 if i == axis else 1 for i in range(weight.ndim))
    steps = weight.astype(np.float32) / scale.astype(np.float32).reshape(shape)
    codes = np.clip(steps, -LARGEST_FP8, LARGEST_FP8).astype(ml_dtypes.float8_e4m3fn)
    return Weight(codes, scale, raised=0)


def quantize_bias(
    bias: Floats, x_scale: np.floating[Any], weight_scale: Floats
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """int32 codes and the float32 scale of a bias (C,)."""
    scale = np.float32(x_scale) * weight_scale.astype(np.float32)
    codes = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    limit = np.iinfo(np.int32)
    return np.clip(codes, limit.min, limit.max).astype(np.int32), scale


def dequantize(
    codes: npt.NDArray[np.integer[Any]], scale: Floats, axis: int
) -> npt.NDArray[np.float32]:
    """What the codes stand for, in float32; their zero point is 0."""
    shape = tuple(-1 if i == axis else 1 for i in range(codes.ndim))
    values: npt.NDArray[np.float32] = codes.astype(np.float32) * scale.astype(np.float32).reshape(
        shape
    )
    return values


def _symmetric_scale(exact: float, dtype: npt.DTypeLike) -> np.floating[Any]:
    if exact < _TINY:
        exact = 1.0  # a tensor that is always zero
    scale: np.floating[Any] = _scale_of(np.array([exact]), dtype)[0]
    return scale


def _scale_of(exact: npt.NDArray[np.float64], dtype: npt.DTypeLike) -> Floats:
    """The scales as they are kept: rounded to float32, or up to float16, where steps are coarse."""
    if np.dtype(dtype) == np.float32:
        return exact.astype(np.float32)
    rounded = exact.astype(np.float16)
    up = np.nextafter(rounded, np.float16(np.inf))
    return np.maximum(np.where(rounded < exact, up, rounded), np.float16(_TINY_HALF))
