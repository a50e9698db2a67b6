"""An int32 bias as the numbers that it stands for: those of ONNX Runtime's DequantizeLinear."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.passes.forms.float_biases import float_biases
from tests.graphs import graph, operators, random, run

CHANNELS = 5


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("per_channel", [True, False])
def test_the_numbers_are_the_same_bit_for_bit(seed: int, per_channel: bool) -> None:
    rng = np.random.RandomState(seed)
    shape = (CHANNELS,) if per_channel else ()
    most = 10 ** rng.randint(1, 10)  # beyond 2**24, where not every integer is a float32
    model = graph(
        """net (float[N,3,4,4] x) => (float[N,5,4,4] y) {
            b = DequantizeLinear <axis=0> (codes, scale)
            y = Conv (x, w, b)
        }""",
        w=random(CHANNELS, 3, 1, 1, seed=seed),
        codes=rng.randint(-most, most, CHANNELS).astype(np.int32),
        scale=(10.0 ** rng.uniform(-9, -2, shape)).astype(np.float32),
    )
    x = random(1, 3, 4, 4, seed=seed)
    before = run(model, x)
    assert float_biases(model).fired == 1
    assert operators(model) == ["Conv"]
    np.testing.assert_array_equal(run(model, x), before)
    assert float_biases(model).fired == 0


def test_what_is_no_constant_in_int32_stays() -> None:
    model = graph(
        """net (float[N,3,4,4] x, int32[5] given) => (float[N,5,4,4] y, float[5] z) {
            w = DequantizeLinear (codes, scale)
            b = DequantizeLinear (given, scale)
            z = DequantizeLinear (biases, scale)
            y = Conv (x, w, b)
        }""",
        codes=np.ones((CHANNELS, 3, 1, 1), np.int8),
        biases=np.ones(CHANNELS, np.int32),
        scale=np.array(0.5, np.float32),
    )
    assert float_biases(model).fired == 0
    assert len(operators(model)) == 4
