"""Operators that ONNX's reference evaluator (1.23) computes wrongly, as they are defined.

Its MaxPool errs with uneven padding, rounding up and infinities; its BatchNormalization before
opset 14 computes in training mode; its Softmax before 13 takes one axis where the definition takes
all from there on; its AveragePool refuses some padding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx.reference.op_run import OpRun

Array = npt.NDArray[Any]
SOFTMAX_OF_ONE_AXIS: Final = 13
"""Since which opset a Softmax is over one axis."""


class BatchNormalization(OpRun):
    op_domain = ""

    def _run(  # type: ignore[no-untyped-def]
        self, x, scale, bias, mean, var, epsilon=1e-5, **_
    ):
        shape = (1, -1, *(1,) * (x.ndim - 2))
        factor = scale / np.sqrt(var + np.asarray(epsilon, x.dtype))
        result = (x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)
        return (result.astype(x.dtype),)


class MaxPool(OpRun):
    op_domain = ""

    def _run(self, x, **attributes):  # type: ignore[no-untyped-def]
        made = _pooled(x, attributes, lambda window, _: window.max((2, 3)))
        return (
            (made,) if len(self.onnx_node.output) == 1 else (made, np.zeros(made.shape, np.int64))
        )


class AveragePool(OpRun):
    op_domain = ""

    def _run(self, x, count_include_pad=0, **attributes):  # type: ignore[no-untyped-def]
        def mean(window: Array, padded: int) -> Array:
            count = padded if count_include_pad else window.shape[2] * window.shape[3]
            total: Array = window.sum((2, 3)) / np.asarray(count, window.dtype)
            return total

        return (_pooled(x, attributes, mean),)


def _pooled(x: Array, attributes: dict[str, Any], reduce: Callable[[Array, int], Array]) -> Array:
    """`reduce` takes the values of a window, and how many it has with those of the padding."""
    axes = [_windows(x.shape[2 + axis], axis, attributes) for axis in (0, 1)]
    made = np.empty((*x.shape[:2], *map(len, axes)), x.dtype)
    for i, (rows, high) in enumerate(axes[0]):
        for j, (columns, wide) in enumerate(axes[1]):
            made[:, :, i, j] = reduce(x[:, :, rows, columns], high * wide)
    return made


def _windows(size: int, axis: int, attributes: dict[str, Any]) -> list[tuple[slice, int]]:
    """The windows along one axis: which values are in each, and how many places it has."""
    kernel = attributes["kernel_shape"][axis]
    stride = (attributes.get("strides") or [1, 1])[axis]
    pads = attributes.get("pads") or [0] * 4
    before, after = pads[axis], pads[2 + axis]
    how = attributes.get("auto_pad") or "NOTSET"
    if how.startswith("SAME"):
        count = -(-size // stride)
        missing = max(0, (count - 1) * stride + kernel - size)
        before = missing // 2 if how == "SAME_UPPER" else missing - missing // 2
        after = missing - before
    else:
        room = size + before + after - kernel
        count = (-(-room // stride) if attributes.get("ceil_mode") else room // stride) + 1
        if attributes.get("ceil_mode") and (count - 1) * stride >= size + before:
            count -= 1
    found = []
    for index in range(count):
        start = index * stride - before
        end = min(start + kernel, size + after)
        found.append((slice(max(start, 0), min(end, size)), end - start))
    return found


class _Softmax(OpRun):
    op_domain = ""

    def _run(self, x, axis=None):  # type: ignore[no-untyped-def]
        if self.run_params["opsets"][""] >= SOFTMAX_OF_ONE_AXIS:
            over: tuple[int, ...] = (-1 if axis is None else axis,)
        else:
            over = tuple(range((1 if axis is None else axis) % x.ndim, x.ndim))
        shifted = x - x.max(over, keepdims=True)
        total = np.exp(shifted).sum(over, keepdims=True)
        return (self.of(shifted, total),)

    @staticmethod
    def of(shifted: Array, total: Array) -> Array:
        raise NotImplementedError


class Softmax(_Softmax):
    @staticmethod
    def of(shifted: Array, total: Array) -> Array:
        found: Array = np.exp(shifted) / total
        return found


class LogSoftmax(_Softmax):
    @staticmethod
    def of(shifted: Array, total: Array) -> Array:
        found: Array = shifted - np.log(total)
        return found


OPERATORS: Final = (BatchNormalization, MaxPool, AveragePool, Softmax, LogSoftmax)
