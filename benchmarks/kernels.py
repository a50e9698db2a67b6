"""Kernels that are nothing but arithmetic or a copy: what this machine could do at most.

One library's matrix product is not the ceiling of a convolution: MLAS's own integer product is
slower than its integer convolution. So each precision has products and convolutions of several
libraries, and the fastest counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.peers import Place
from exporter.targets import Array

ROWS, INNER, COLUMNS = 1024, 2048, 2048
"""Of the matrix product, rows x inner by inner x columns."""
CHANNELS, SIDE = 512, 28
"""Of the 3x3 convolution, as many channels in as out."""
COPY_BYTES: Final = 2**29

PRODUCT_OPS: Final = 2 * ROWS * INNER * COLUMNS
CONV_OPS: Final = 2 * 9 * CHANNELS**2 * SIDE**2


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
    """The ONNX file that it runs: a name that `write_graph` knows."""


_OPENVINO: Final = "benchmarks.peers:load_openvino"
_TORCH: Final = "benchmarks.kernels:load_product"
_PRODUCT: Final = (ROWS, INNER)
_CONV: Final = (CHANNELS, SIDE, SIDE)

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
    """Writes one of the graphs that KERNELS name, with seeded weights; returns its path."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    conv, quantized = name.startswith("conv"), name.endswith("-int8")
    weights_shape = (CHANNELS, CHANNELS, 3, 3) if conv else (INNER, COLUMNS)
    codes = generator.integers(-127, 128, weights_shape, dtype=np.int8)
    integer = quantized or name == "product-integer"
    weights: Array = codes if integer else codes.astype(np.float32) / 1e4
    constants: dict[str, Any] = {"w": weights}
    if integer:
        constants |= {
            "x_zero": np.uint8(128),
            "w_zero": np.int8(0),
            "x_scale": np.float32(0.01),
            "w_scale": np.float32(0.01),
            "y_scale": np.float32(1.0),
        }
    attributes: dict[str, Any] = {"pads": [1, 1, 1, 1]} if conv else {}
    operator = "Conv" if conv else "MatMul"
    if name == "product-integer":
        nodes = [helper.make_node("MatMulInteger", ["x", "w", "x_zero", "w_zero"], ["y"])]
    elif quantized:
        nodes = [
            helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["xf"]),
            helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wf"]),
            helper.make_node(operator, ["xf", "wf"], ["yf"], name, **attributes),
            helper.make_node("QuantizeLinear", ["yf", "y_scale", "x_zero"], ["y"]),
        ]
    else:
        nodes = [helper.make_node(operator, ["x", "w"], ["y"], name, **attributes)]
    given = [1, CHANNELS, SIDE, SIDE] if conv else [1, ROWS, INNER]
    answered = given if conv else [1, ROWS, COLUMNS]
    kind = TensorProto.UINT8 if integer else TensorProto.FLOAT
    out = TensorProto.INT32 if name == "product-integer" else kind
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", kind, given)],
        [helper.make_tensor_value_info("y", out, answered)],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, producer_name=""
    )
    onnx.checker.check_model(model, full_check=True)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path
