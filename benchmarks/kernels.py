"""Kernels that are nothing but arithmetic or a copy: what this machine could do at most.

One library's matrix product is not the ceiling of a convolution, nor the other way round: ONNX
Runtime's integer product is three times as fast as its integer convolution. So each precision has
products and convolutions of several libraries, and the fastest counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import Place
from exporter.measure import ceiling_graphs
from exporter.measure.ceiling_graphs import (
    COLUMNS,
    CONV_INPUT,
    CONV_OPS,
    INNER,
    PRODUCT_INPUT,
    PRODUCT_OPS,
)
from exporter.targets import Array

COPY_BYTES: Final = 2**29

GRAPHS: Final[Mapping[str, Callable[[], bytes]]] = {
    "product": partial(ceiling_graphs.product, int8=False),
    "product-int8": partial(ceiling_graphs.product, int8=True),
    "product-integer": ceiling_graphs.product_integer,
    "conv": partial(ceiling_graphs.convolutions, int8=False),
    "conv-int8": partial(ceiling_graphs.convolutions, int8=True),
}


@dataclass(frozen=True)
class Kernel:
    """One kernel, as a job of a worker."""

    name: str
    precision: str
    """As engines have it, or "copy"."""
    kind: str
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    """Of its input, without the leading 1."""
    dtype: str
    amount: int
    """Operations (a multiply-accumulate is two), or bytes read and written for "copy"."""
    graph: str | None = None
    """The ONNX file that it runs: a key of GRAPHS."""


_OPENVINO: Final = "benchmarks.peers:load_openvino"
_TORCH: Final = "benchmarks.kernels:load_product"
_PRODUCT: Final = PRODUCT_INPUT[1:]
_CONV: Final = CONV_INPUT[1:]

KERNELS: Final = (
    Kernel("torch product", "fp32", _TORCH, {}, _PRODUCT, "float32", PRODUCT_OPS),
    Kernel("onnxruntime product", "fp32", "onnx", {}, _PRODUCT, "float32", PRODUCT_OPS, "product"),
    Kernel("onnxruntime 3x3", "fp32", "onnx", {}, _CONV, "float32", CONV_OPS, "conv"),
    Kernel("openvino 3x3", "fp32", _OPENVINO, {"hint": "f32"}, _CONV, "float32", CONV_OPS, "conv"),
    Kernel("torch product bf16", "bf16", _TORCH, {"bf16": True}, _PRODUCT, "float32", PRODUCT_OPS),
    Kernel("openvino 3x3 bf16", "bf16", _OPENVINO, {"hint": "bf16"}, _CONV, "float32", CONV_OPS,
           "conv"),
    Kernel("onnxruntime MatMulInteger", "int8", "onnx", {}, _PRODUCT, "uint8", PRODUCT_OPS,
           "product-integer"),
    Kernel("onnxruntime product int8", "int8", "onnx", {}, _PRODUCT, "uint8", PRODUCT_OPS,
           "product-int8"),
    Kernel("openvino product int8", "int8", _OPENVINO, {"hint": "f32"}, _PRODUCT, "uint8",
           PRODUCT_OPS, "product-int8"),
    Kernel("onnxruntime 3x3 int8", "int8", "onnx", {}, _CONV, "uint8", CONV_OPS, "conv-int8"),
    Kernel("openvino 3x3 int8", "int8", _OPENVINO, {"hint": "f32"}, _CONV, "uint8", CONV_OPS,
           "conv-int8"),
    Kernel("torch copy", "copy", "benchmarks.kernels:load_copy", {}, (1,), "float32",
           2 * COPY_BYTES),
)  # fmt: skip


def load_product(job: Mapping[str, Any]) -> Place:
    """Torch's matrix product with a constant matrix, in float32 or bfloat16."""
    import torch

    torch.set_num_threads(job["threads"])
    kind = torch.bfloat16 if job.get("bf16") else torch.float32
    right = torch.rand(INNER, COLUMNS, dtype=torch.float32).to(kind)

    def place(batch: Array) -> Any:
        left = torch.from_numpy(batch)[0].to(kind)
        return lambda: left @ right

    return place


def load_copy(job: Mapping[str, Any]) -> Place:
    """Torch's copy of COPY_BYTES from one buffer to another, on all threads."""
    import torch

    torch.set_num_threads(job["threads"])
    source = torch.ones(COPY_BYTES, dtype=torch.uint8)
    target = torch.zeros(COPY_BYTES, dtype=torch.uint8)
    return lambda _batch: lambda: target.copy_(source)


def write_graph(name: str, folder: Path) -> Path:
    """Writes one of GRAPHS; returns its path."""
    path = folder / f"{name}.onnx"
    path.write_bytes(GRAPHS[name]())
    return path
