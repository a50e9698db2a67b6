"""What this machine can compute and move at most: the roof of a roofline, measured.

The best of several kernels counts, since no single library's product is the ceiling: a matrix
product and a row of 3x3 convolutions, by ONNX Runtime (MLAS), OpenVINO (oneDNN) and, in float, by
torch; BF16 is tried where the CPU has it. A kernel whose library is not here is left out, with the
reason. Memory is a copy of an array far larger than any cache, in as many parts as threads; its
bytes are those read and those written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final

import numpy as np

from exporter import host
from exporter.artifact import Skipped
from exporter.errors import BuildError
from exporter.measure import ceiling_graphs as graphs
from exporter.measure.timing import Ceilings
from exporter.measure.worker import make_input
from exporter.runtime.errors import reason_of
from exporter.runtime.machine import BF16_FLAG

KERNEL_S: Final = 0.25
"""How long each kernel is repeated; its fastest repetition counts."""
COPIED_BYTES: Final = 128 << 20

Run = Callable[[], object]
Load = Callable[[int], AbstractContextManager[Run]]
"""Loads a kernel for a number of threads; it can be run for as long as the context lasts."""


def measure_ceilings(threads: int) -> Ceilings | Skipped:
    """The ceilings of this machine on so many threads; about three seconds.

    Skipped, with the reasons, where no kernel of a type can be tried.
    """
    tried: dict[str, float] = {}
    left_out: dict[str, Skipped] = {}
    for name, operations, load in _kernels():
        try:
            with load(threads) as run:
                tried[name] = operations / _fastest_s(run) / 1e9
        # What a library that is absent, broken or out of memory raises: a ceiling costs no build.
        except (ImportError, OSError, RuntimeError, MemoryError, BuildError) as error:
            left_out[name] = Skipped(reason_of(error))
    best = {
        kind: max((rate for name, rate in tried.items() if name.startswith(kind)), default=None)
        for kind in ("fp32", "int8", "bf16")
    }
    if best["fp32"] is None or best["int8"] is None:
        reasons = "; ".join(f"{name}: {why.skipped}" for name, why in left_out.items())
        return Skipped(f"too few kernels can be tried here ({reasons})")
    try:
        copied = _copy_gb_s(threads)
    except MemoryError as error:
        return Skipped(f"no memory to copy: {error}")
    return Ceilings(
        threads, best["fp32"], best["int8"], copied, tried, left_out, bf16_gops=best["bf16"]
    )


def _kernels() -> Iterator[tuple[str, int, Load]]:
    """Name (its type first), operations, and what loads the kernel."""
    yield "fp32 product, torch", graphs.PRODUCT_OPS, _torch_product
    for library, load in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
        for kind, dtype in (("fp32", "float32"), ("int8", "uint8")):
            graph = partial(graphs.convolutions, int8=kind == "int8")
            loader = partial(load, graph, graphs.CONV_INPUT, dtype)
            yield f"{kind} convolutions, {library}", graphs.CONV_OPS, loader
    product = partial(graphs.product, int8=False)
    loader = partial(_onnxruntime, product, graphs.PRODUCT_INPUT, "float32")
    yield "fp32 product, onnxruntime", graphs.PRODUCT_OPS, loader
    loader = partial(_onnxruntime, graphs.product_integer, graphs.PRODUCT_INPUT, "uint8")
    yield "int8 product, onnxruntime", graphs.PRODUCT_OPS, loader
    if BF16_FLAG in host.cpu_flags():  # without it, a product of torch's takes a minute
        yield "bf16 product, torch", graphs.PRODUCT_OPS, partial(_torch_product, bf16=True)
        graph = partial(graphs.convolutions, int8=False)
        loader = partial(_openvino, graph, graphs.CONV_INPUT, "float32", hint="bf16")
        yield "bf16 convolutions, openvino", graphs.CONV_OPS, loader


def _fastest_s(run: Run) -> float:
    run()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < KERNEL_S:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _copy_gb_s(threads: int) -> float:
    source = np.ones(COPIED_BYTES // 4, np.float32)
    target = np.empty_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(*part), parts))

        return 2 * COPIED_BYTES / _fastest_s(copy) / 1e9


@contextmanager
def _torch_product(threads: int, *, bf16: bool = False) -> Iterator[Run]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    drawn = torch.Generator().manual_seed(0)  # the program's own random state stays as it is
    left = torch.rand(graphs.ROWS, graphs.INNER, generator=drawn)
    right = torch.rand(graphs.INNER, graphs.COLUMNS, generator=drawn)
    if bf16:
        left, right = left.bfloat16(), right.bfloat16()
    try:
        yield lambda: left @ right
    finally:
        torch.set_num_threads(before)


@contextmanager
def _onnxruntime(
    graph: Callable[[], bytes], shape: tuple[int, ...], dtype: str, threads: int
) -> Iterator[Run]:
    from exporter.targets.ort.session import make_session, session_options

    session = make_session(graph(), session_options(threads))
    feeds = {"x": make_input(shape, dtype, 0)}
    yield lambda: session.run(None, feeds)


@contextmanager
def _openvino(
    graph: Callable[[], bytes], shape: tuple[int, ...], dtype: str, threads: int, hint: str = "f32"
) -> Iterator[Run]:
    import openvino as ov

    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": hint,
    }
    compiled = core.compile_model(core.read_model(graph(), b""), "CPU", settings)
    request = compiled.create_infer_request()
    feeds = {0: make_input(shape, dtype, 0)}
    yield lambda: request.infer(feeds, share_inputs=True, share_outputs=True)
