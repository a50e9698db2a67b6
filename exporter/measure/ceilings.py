"""What this machine can compute and move at most: the roof of a roofline, measured.

The best of several kernels counts, since no single library's product is the ceiling: a matrix
product and a row of 3x3 convolutions, by ONNX Runtime (MLAS), OpenVINO (oneDNN) and, in FP32, by
torch. Memory is a copy of an array far larger than any cache; its bytes are those read and those
written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from exporter.measure import ceiling_graphs as graphs
from exporter.measure.timing import Ceilings
from exporter.measure.worker import make_input

KERNEL_S: Final = 0.25
"""How long each kernel is repeated; its fastest repetition counts."""
COPIED_BYTES: Final = 128 << 20

Run = Callable[[], object]


def measure_ceilings(threads: int) -> Ceilings:
    """The ceilings of this machine on so many threads; about three seconds."""
    with _torch_threads(threads):
        tried = {
            name: operations / _fastest_s(run) / 1e9 for name, operations, run in _kernels(threads)
        }
        copied = _copy_gb_s()
    return Ceilings(
        threads=threads,
        fp32_gops=max(rate for name, rate in tried.items() if name.startswith("fp32")),
        int8_gops=max(rate for name, rate in tried.items() if name.startswith("int8")),
        copy_gb_s=copied,
        kernels=tried,
    )


def _kernels(threads: int) -> Iterator[tuple[str, int, Run]]:
    """Name, operations, and the kernel, ready to run; each is made when it is asked for."""
    yield "fp32 product, torch", graphs.PRODUCT_OPS, _torch_product()
    for name, open_graph in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
        for int8 in (False, True):
            kind = "int8" if int8 else "fp32"
            batch = make_input(graphs.CONV_INPUT, "uint8" if int8 else "float32", 0)
            run = open_graph(graphs.convolutions(int8=int8), batch, threads)
            yield f"{kind} convolutions, {name}", graphs.CONV_OPS, run
    image = make_input(graphs.PRODUCT_INPUT, "float32", 0)
    yield (
        "fp32 product, onnxruntime",
        graphs.PRODUCT_OPS,
        _onnxruntime(graphs.product(int8=False), image, threads),
    )
    codes = make_input(graphs.PRODUCT_INPUT, "uint8", 0)
    yield (
        "int8 product, onnxruntime",
        graphs.PRODUCT_OPS,
        _onnxruntime(graphs.product_integer(), codes, threads),
    )


def _fastest_s(run: Run) -> float:
    run()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < KERNEL_S:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _torch_product() -> Run:
    import torch

    left = torch.rand(graphs.ROWS, graphs.INNER)
    right = torch.rand(graphs.INNER, graphs.COLUMNS)
    return lambda: left @ right


def _copy_gb_s() -> float:
    import torch

    source = torch.ones(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / _fastest_s(lambda: target.copy_(source)) / 1e9


def _onnxruntime(graph: bytes, batch: Any, threads: int) -> Run:
    from exporter.targets.ort.session import make_session, session_options

    session = make_session(graph, session_options(threads))
    return lambda: session.run(None, {"x": batch})


def _openvino(graph: bytes, batch: Any, threads: int) -> Run:
    import openvino as ov

    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(graph, b""), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer({0: batch}, share_inputs=True, share_outputs=True)
