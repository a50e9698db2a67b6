"""Which tensors of a checkpoint are numbers that a network's own can take.

A parameter of floating-point numbers takes dense floating-point numbers of 16 bits and more, from
memory. Integer codes of a quantized checkpoint would be taken for the values that they stand for,
and of complex numbers the imaginary part would be lost. A counter takes integers.
"""

from __future__ import annotations

from typing import Final

import torch

FLOATS: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The types that are rounded to, or widened to, the network's float32."""


def why_unusable(found: torch.Tensor, own: torch.Tensor) -> str | None:
    """What a tensor of a checkpoint is, where the network's own cannot take it; None: it can."""
    if found.is_meta:
        return "a meta tensor without numbers"
    if found.is_quantized:
        return f"quantized ({_name(found.dtype)})"
    if found.layout is not torch.strided or found.is_nested:
        return f"sparse ({_name(found.layout)})" if found.is_sparse else _name(found.layout)
    fits = found.dtype in FLOATS if own.is_floating_point() else _is_whole(found.dtype)
    return None if fits else f"{_name(found.dtype)} for {_name(own.dtype)}"


def _is_whole(dtype: torch.dtype) -> bool:
    return not dtype.is_floating_point and not dtype.is_complex


def _name(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")
