"""Round a layer's weights so that its result changes least, not each one to its nearest code.

Rounding W to Wq changes a layer's result by (W - Wq) x. Its mean is taken back by the bias
(`correct.py`); what is left is the variance, tr((W - Wq) C (W - Wq)^T), with C the covariance of
the inputs x as the layer's columns see them. The columns are rounded one after the other, the most
exercised first, and each one's error is made good in those that are still to come:

    for column i:   q_i = round(v_i + sum over j before i of (v_j - q_j) * A_ji)    v = w / scale

with A the strictly upper part of the unit triangular factor of C + damping = (A + I) D (A + I)^T.
Scales stay as they are.

Source: Frantar et al. 2022, "GPTQ", with the covariance in place of the second moment, in the form
of Chee et al. 2023, "QuIP" (LDLQ, theorem 6: the same codes), which needs no inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.errors import BuildError
from exporter.passes.qdq.arithmetic import LARGEST_CODE
from exporter.passes.values import is_op

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[np.float32]

POSITIONS: Final = 32
"""About how many of one image's output positions are looked at: more of them gained nothing."""
DAMPING: Final = 0.01
"""The part of the mean variance that is added to each variance: inputs that hardly vary must not
take all the error."""
_BLOCK: Final = 64
"""How many columns are rounded before their errors are passed on in one matrix product."""
_AT_ONCE: Final = 1024
"""How many positions are multiplied at a time: adding up (columns, columns) has its price too."""


class Moments:
    """The covariance of what a Conv or Gemm multiplies its weights with, group by group."""

    def __init__(self, groups: int, columns: int) -> None:
        self._count = 0
        self._origin: Array | None = None
        self._sum = np.zeros((groups, columns))
        self._products = np.zeros((groups, columns, columns), np.float32)
        self._waiting: list[Array] = []

    def add(self, inputs: Array) -> None:
        """(groups, columns, positions) of one image."""
        if self._origin is None:
            # Counted from there, squares are small beside what float32 can hold exactly.
            self._origin = inputs.mean(axis=2, keepdims=True)
        inputs = inputs - self._origin
        self._count += inputs.shape[2]
        self._sum += inputs.sum(axis=2, dtype=np.float64)
        self._waiting.append(inputs)
        if sum(part.shape[2] for part in self._waiting) >= _AT_ONCE:
            self._multiply()

    def _multiply(self) -> None:
        import torch

        if self._waiting:
            rows = torch.from_numpy(np.concatenate(self._waiting, axis=2))
            torch.from_numpy(self._products).baddbmm_(rows, rows.transpose(1, 2))
            self._waiting.clear()

    def covariance(self, group: int) -> torch.Tensor:
        """(columns, columns), float32."""
        import torch

        self._multiply()
        mean = torch.from_numpy((self._sum[group] / self._count).astype(np.float32))
        second = torch.from_numpy(self._products[group]) / self._count
        return second.addr_(mean, mean, alpha=-1.0)


def moments_shape(node: ir.Node, weight: tuple[int, ...]) -> tuple[int, int] | None:
    """(groups, columns) of a layer's moments; None: a convolution that is not two-dimensional."""
    if is_op(node, "Gemm"):
        return 1, weight[1 if node.attributes.get_int("transB", 0) else 0]
    if len(weight) != 4:
        return None
    return node.attributes.get_int("group", 1), int(np.prod(weight[1:]))


def columns_of(node: ir.Node, x: Array, kernel: tuple[int, int]) -> Array:
    """What the weights meet in one image: (groups, I/g * kH * kW, positions).

    `x` is (1, C, H, W) for a Conv and (1, C) for a Gemm; `kernel` is (kH, kW).
    """
    if is_op(node, "Gemm"):
        return x.reshape(1, -1, 1)
    stride = node.attributes.get_ints("strides", (1, 1))
    dilation = node.attributes.get_ints("dilations", (1, 1))
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    top, left, bottom, right = _pads(node, x.shape[2:], reach, stride)
    padded = np.pad(x[0], ((0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(reach), axis=(1, 2))
    windows = windows[:, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    height, width = windows.shape[1:3]
    chosen = np.arange(0, height * width, (height * width // POSITIONS) | 1)
    picked = windows[:, chosen // width, chosen % width]  # (C, positions, kH, kW)
    groups = node.attributes.get_int("group", 1)
    rows: Array = picked.transpose(0, 2, 3, 1).reshape(groups, -1, len(chosen))
    return rows


def round_columns(
    weight: Array, scale: Array, covariance: torch.Tensor, largest: int = LARGEST_CODE
) -> npt.NDArray[np.int8]:
    """Codes for a weight (O, K) with one scale a row, given the covariance (K, K) of its inputs.

    `largest` is the largest code that may be used.
    """
    import torch  # its matrix routines are several times faster than numpy's

    # From the least exercised column up: what is factored is then the lower triangle.
    order = torch.argsort(covariance.diagonal(), stable=True)
    factor = _factor(covariance[order][:, order])
    feedback = factor.div_(factor.diagonal().clone())  # the transposed A + I, the last column first
    columns = order.numpy()
    exact = np.ascontiguousarray((weight / scale[:, None]).T[columns])  # (K, O): a column is a row
    codes = np.empty(exact.shape, np.float32)
    errors = np.empty(exact.shape, np.float32)
    for start in reversed(range(0, len(exact), _BLOCK)):
        stop = min(start + _BLOCK, len(exact))
        passed_on = feedback[stop:, start:stop].T @ torch.from_numpy(errors[stop:])
        wanted = exact[start:stop] + passed_on.numpy()
        inside = feedback[start:stop, start:stop].T.contiguous().numpy()
        own = errors[start:stop]
        for i in reversed(range(stop - start)):
            rounded = np.rint(wanted[i] + inside[i, i + 1 :] @ own[i + 1 :])
            np.clip(rounded, -largest, largest, out=codes[start + i])
            np.subtract(exact[start + i], codes[start + i], out=own[i])
    result = np.empty(weight.shape, np.int8)
    result[:, columns] = codes.T
    return result


def _factor(covariance: torch.Tensor) -> torch.Tensor:
    """The lower triangular factor of a covariance (K, K), whose diagonal is damped in place.

    Sums in float32 can leave a covariance that no numbers have; such a one is damped more.
    """
    import torch

    mean = float(covariance.diagonal().mean()) + float(np.finfo(np.float32).tiny)
    added = 0.0
    for damping in (DAMPING, 10 * DAMPING, 100 * DAMPING):
        covariance.diagonal().add_((damping - added) * mean)
        added = damping
        factor: torch.Tensor
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:
            return factor
    raise BuildError(
        "the inputs of a layer have no covariance; look for infinite or huge values in the data"
    )


def _pads(
    node: ir.Node, size: Sequence[int], reach: Sequence[int], stride: Sequence[int]
) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    kind = node.attributes.get_string("auto_pad", "NOTSET")
    if kind == "NOTSET":
        top, left, bottom, right = node.attributes.get_ints("pads", (0, 0, 0, 0))
        return top, left, bottom, right
    if kind == "VALID":
        return 0, 0, 0, 0
    totals = [
        max(((n + step - 1) // step - 1) * step + r - n, 0)
        for n, r, step in zip(size, reach, stride, strict=True)
    ]
    half = [total // 2 for total in totals]
    rest = [total - small for total, small in zip(totals, half, strict=True)]
    begin, end = (half, rest) if kind == "SAME_UPPER" else (rest, half)
    return begin[0], begin[1], end[0], end[1]
