"""ONNX graphs that are nothing but arithmetic: what a ceiling is measured with.

The convolutions stand in a row, so that what a runtime spends on bringing the image into its own
layout, once, counts for little. Weights are seeded; their values matter to no kernel's speed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROWS, INNER, COLUMNS = 1024, 2048, 2048
"""Of the matrix product, rows x inner by inner x columns."""
CHANNELS, SIDE, DEPTH = 256, 28, 8
"""Of the 3x3 convolutions: as many channels in as out, pixels a side, how many in a row."""
PRODUCT_OPS: Final = 2 * ROWS * INNER * COLUMNS
"""Two to a multiply-accumulate."""
CONV_OPS: Final = 2 * 9 * CHANNELS**2 * SIDE**2 * DEPTH

PRODUCT_INPUT: Final = (1, ROWS, INNER)
CONV_INPUT: Final = (1, CHANNELS, SIDE, SIDE)


def product_integer() -> bytes:
    """MatMulInteger of uint8 by a constant int8 matrix, into int32."""
    constants: dict[str, Any] = {"w": _codes((INNER, COLUMNS))}
    constants |= {"zero": np.uint8(128), "w_zero": np.int8(0)}
    node = helper.make_node("MatMulInteger", ["x", "w", "zero", "w_zero"], ["y"])
    return _model([node], constants, PRODUCT_INPUT, (1, ROWS, COLUMNS), "uint8", "int32")


def product(*, int8: bool) -> bytes:
    """A matrix product with a constant matrix: float32, or between Q/DQ from uint8 to uint8."""
    weights = _codes((INNER, COLUMNS))
    return _layers("MatMul", weights, PRODUCT_INPUT, (1, ROWS, COLUMNS), int8=int8)


def convolutions(*, int8: bool) -> bytes:
    """DEPTH 3x3 convolutions in a row: float32, or with Q/DQ between, from uint8 to uint8."""
    weights = _codes((CHANNELS, CHANNELS, 3, 3))
    return _layers(
        "Conv", weights, CONV_INPUT, CONV_INPUT, int8=int8, depth=DEPTH, pads=[1, 1, 1, 1]
    )


def _codes(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(-127, 128, shape, dtype=np.int8)


def _layers(
    operator: str,
    codes: np.ndarray,
    given: tuple[int, ...],
    answered: tuple[int, ...],
    *,
    int8: bool,
    depth: int = 1,
    **attributes: Any,
) -> bytes:
    # Each layer has constants of its own, as in a network: none is served from a cache by another.
    constants: dict[str, Any] = {}
    nodes = []
    for layer in range(depth):
        x, y = (f"y{layer - 1}" if layer else "x"), (f"y{layer}" if layer < depth - 1 else "y")
        name = f"layer{layer}"
        if not int8:
            constants[f"w{layer}"] = codes.astype(np.float32) / 1e4
            nodes.append(helper.make_node(operator, [x, f"w{layer}"], [y], name, **attributes))
            continue
        # Nor does ONNX Runtime, without VNNI, load a zero point of weights that two layers share.
        constants |= {f"w{layer}": codes, f"w{layer}_zero": np.int8(0)}
        floats = [f"x{layer}f", f"w{layer}f"]
        nodes += [
            helper.make_node("DequantizeLinear", [x, "scale", "zero"], floats[:1]),
            helper.make_node(
                "DequantizeLinear", [f"w{layer}", "scale", f"w{layer}_zero"], floats[1:]
            ),
            helper.make_node(operator, floats, [f"y{layer}f"], name, **attributes),
            helper.make_node("QuantizeLinear", [f"y{layer}f", "y_scale", "zero"], [y]),
        ]
    if int8:
        constants |= {
            "scale": np.float32(0.01),
            "zero": np.uint8(0),  # as behind a Relu; another one costs corrections
            "y_scale": np.float32(1.0),
        }
    kind = "uint8" if int8 else "float32"
    return _model(nodes, constants, given, answered, kind, kind)


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    given: tuple[int, ...],
    answered: tuple[int, ...],
    kind: str,
    answered_kind: str,
) -> bytes:
    types = {
        "float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32,
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "ceiling",
        [helper.make_tensor_value_info("x", types[kind], given)],
        [helper.make_tensor_value_info("y", types[answered_kind], answered)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, producer_name=""
    )
    content: bytes = model.SerializeToString(deterministic=True)
    return content
