"""A BF16 graph in float32: the same roundings, on a runtime that has no BF16 arithmetic."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from exporter.artifact import Precision
from exporter.errors import BuildError
from exporter.graph.files import save
from exporter.passes.convert_floats import convert_floats
from exporter.passes.widen_bf16 import widen_bf16
from exporter.targets.ort.session import make_session, open_graph, session_options
from tests.graphs import Array, graph, random, run

BLOCK = """block (float[N,4,5,5] x) => (float[N,4,5,5] y) {
    c = Conv <pads=[1,1,1,1]> (x, w, b)
    s = Add (c, x)
    y = Relu (s)
}"""


def bf16(given: dict[str, Array], keep: tuple[str, ...] = ()) -> ir.Model:
    model = graph(BLOCK, **given)
    convert_floats(model, Precision.BF16, keep)
    return model


def rounded(values: Array) -> Array:
    """To BF16 and back."""
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def weights() -> dict[str, Array]:
    return {"w": random(4, 4, 3, 3), "b": random(4, seed=1)}


def test_each_result_is_rounded_and_computed_in_float32() -> None:
    given = weights()
    model = bf16(given)
    report = widen_bf16(model)
    assert report.fired == 3
    common.ShapeInferencePass()(model)
    common.CheckerPass(full_check=True)(model)
    x = random(2, 4, 5, 5, seed=2)
    convolved = graph(
        "conv (float[N,4,5,5] x) => (float[N,4,5,5] c) { c = Conv <pads=[1,1,1,1]> (x, w, b) }",
        w=rounded(given["w"]),
        b=rounded(given["b"]),
    )
    c = rounded(run(convolved, rounded(x)))
    expected = np.maximum(rounded(c + rounded(x)), 0)
    np.testing.assert_array_equal(run(model, x), expected)


def test_what_is_kept_in_float32_is_not_rounded() -> None:
    every, kept = bf16(weights()), bf16(weights(), ("c",))
    assert widen_bf16(kept).fired == 2
    widen_bf16(every)
    plain = graph(BLOCK, **weights())
    x = random(2, 4, 5, 5, seed=2)
    error, less = (np.linalg.norm(run(model, x) - run(plain, x)) for model in (every, kept))
    assert 0 < less < error


def test_a_graph_without_bf16_is_left_alone() -> None:
    model = graph(BLOCK, **weights())
    assert widen_bf16(model).fired == 0
    assert len(model.graph) == 3


def test_a_file_in_bf16_is_run_so_where_its_engine_cannot_be(tmp_path: Path) -> None:
    """ONNX Runtime's CPU provider itself has no BF16 convolution: why `ort-cpu` refuses it."""
    path = tmp_path / "bf16.onnx"
    model = bf16(weights())
    save(model, path)
    with pytest.raises(BuildError, match="Could not find an implementation for Conv"):
        make_session(path, session_options(1))
    x = random(2, 4, 5, 5, seed=2)
    widen_bf16(model)
    with open_graph(path, 1) as session:
        np.testing.assert_array_equal(session.run(x), run(model, x))
