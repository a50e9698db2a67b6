"""An engine of several inputs: batches of any size, whatever order its file has them in."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.graph.files import serialize
from exporter.runtime import NoEngineError
from exporter.runtime.description import Description, EngineEntry, Requirements
from exporter.runtime.engine import Engine
from exporter.runtime.loading import open_engine
from tests.graphs import Array, graph


def engine(batch: str, names: tuple[str, ...] = ("left", "right")) -> Engine:
    """left - 2 right, of a file that lists the right one first."""
    model = graph(
        f"""net (float[{batch},1,2,2] right, float[{batch},1,2,2] left) => (float[{batch},4] y) {{
            two = Constant <value = float {{2.0}}> ()
            twice = Mul (right, two)
            less = Sub (left, twice)
            y = Flatten (less)
        }}"""
    )
    description = Description("small", names, None, None, "logits", ())
    entry = EngineEntry("ort-cpu.fp32", "ort-cpu", "fp32", (), Requirements(), None, 1e-5, "engine")
    return open_engine(entry, description, ("a", "b", "c", "d"), [serialize(model)])


def pair(count: int) -> tuple[Array, Array]:
    values = np.random.default_rng(0).random((2, count, 1, 2, 2), np.float32)
    return values[0], values[1]


@pytest.mark.parametrize("batch", ["N", "4"])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 70])
def test_batches_of_any_size(batch: str, count: int) -> None:
    left, right = pair(count)
    opened = engine(batch)
    expected = (left - 2 * right).reshape(count, 4)
    np.testing.assert_allclose(opened.run(left, right), expected, atol=1e-6)
    np.testing.assert_allclose(opened({"right": right, "left": left}), expected, atol=1e-6)
    assert list(opened.inputs) == ["left", "right"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("left", "depth"), "it has no input 'depth'"),
        (("left",), "it takes 2 inputs, the network 1"),
    ],
)
def test_a_manifest_of_other_inputs_is_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(NoEngineError, match=message):
        engine("N", names)
