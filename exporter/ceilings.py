"""What this machine can compute and move at most: the roof of a roofline, measured.

The best of several kernels counts, since no single library's product is the ceiling: a matrix
product and a 3x3 convolution, by ONNX Runtime (MLAS) and, in FP32, by torch (oneDNN). Memory is a
copy of an array far larger than any cache; its bytes are those read and those written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

KERNEL_S: Final = 0.25
"""How long each kernel is repeated; its fastest repetition counts."""
SIDE: Final = 1024
"""Of the square matrices."""
CHANNELS: Final = 256
PIXELS: Final = 28
COPIED_BYTES: Final = 128 << 20

Run = Callable[[], object]


@dataclass(frozen=True)
class Ceilings:
    """Giga-operations (two to a multiply-accumulate) and gigabytes a second, on `threads`."""

    threads: int
    fp32_gops: float
    int8_gops: float
    copy_gb_s: float
    kernels: dict[str, float]
    """Each kernel that was tried, in GOP/s."""


def measure_ceilings(threads: int) -> Ceilings:
    """The ceilings of this machine on so many threads; about two seconds."""
    convolution = PIXELS * PIXELS * CHANNELS * CHANNELS * 9
    square = SIDE**3
    tried = {
        "fp32 matrix product, onnxruntime": _rate(square, _ort_product(threads)),
        "fp32 convolution, onnxruntime": _rate(convolution, _ort_convolution(threads)),
        "fp32 matrix product, torch": _torch_rate(square, threads),
        "int8 matrix product, onnxruntime": _rate(square, _ort_product(threads, int8=True)),
        "int8 convolution, onnxruntime": _rate(convolution, _ort_convolution(threads, int8=True)),
    }
    return Ceilings(
        threads=threads,
        fp32_gops=max(rate for name, rate in tried.items() if name.startswith("fp32")),
        int8_gops=max(rate for name, rate in tried.items() if name.startswith("int8")),
        copy_gb_s=_copy_gb_s(threads),
        kernels=tried,
    )


def _fastest_s(run: Run) -> float:
    run()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < KERNEL_S:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _rate(macs: int, run: Run) -> float:
    return 2 * macs / _fastest_s(run) / 1e9


def _torch_rate(macs: int, threads: int) -> float:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        left, right = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
        return _rate(macs, lambda: left @ right)
    finally:
        torch.set_num_threads(before)


def _copy_gb_s(threads: int) -> float:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        source = torch.ones(COPIED_BYTES // 4)
        target = torch.empty_like(source)
        return 2 * COPIED_BYTES / _fastest_s(lambda: target.copy_(source)) / 1e9
    finally:
        torch.set_num_threads(before)


def _ort_product(threads: int, *, int8: bool = False) -> Run:
    left, right = _random((SIDE, SIDE), int8), _random((SIDE, SIDE), int8, signed=True)
    return _session("MatMulInteger" if int8 else "MatMul", left, {"w": right}, threads)


def _ort_convolution(threads: int, *, int8: bool = False) -> Run:
    image = _random((1, CHANNELS, PIXELS, PIXELS), int8)
    weights = _random((CHANNELS, CHANNELS, 3, 3), int8, signed=True)
    if not int8:
        return _session("Conv", image, {"w": weights}, threads, pads=[1, 1, 1, 1])
    one, zero = np.float32(1.0), np.uint8(0)
    constants = {
        "x_scale": one, "x_zero": zero, "w": weights, "w_scale": one, "w_zero": np.int8(0),
        "y_scale": one, "y_zero": zero,
    }  # fmt: skip
    return _session("QLinearConv", image, constants, threads, pads=[1, 1, 1, 1])


def _random(shape: tuple[int, ...], int8: bool, *, signed: bool = False) -> Any:
    generator = np.random.default_rng(0)
    if not int8:
        return generator.random(shape, dtype=np.float32)
    low, kind = (-8, np.int8) if signed else (0, np.uint8)
    return generator.integers(low, 8, shape).astype(kind)


def _session(
    operator: str, given: Any, constants: dict[str, Any], threads: int, **attributes: Any
) -> Run:
    """One operator as a session; run it on `given`."""
    from onnx import TensorProto, helper, numpy_helper

    from exporter.targets.ort_session import make_session, session_options

    kinds = {"MatMulInteger": TensorProto.INT32, "QLinearConv": TensorProto.UINT8}
    kind = helper.np_dtype_to_tensor_dtype(given.dtype)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *constants], ["y"], operator, **attributes)],
        operator,
        [helper.make_tensor_value_info("x", kind, given.shape)],
        [helper.make_tensor_value_info("y", kinds.get(operator, kind), [None] * given.ndim)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    session = make_session(model.SerializeToString(), session_options(threads))
    return lambda: session.run(None, {"x": given})
