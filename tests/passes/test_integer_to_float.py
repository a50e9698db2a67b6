"""What `quantize_dynamic` writes, as the float network that it stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from exporter.errors import InputError
from exporter.passes.integer_to_float import integer_to_float
from tests.causes import planted
from tests.graphs import graph, operators, relative_error, run


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return planted.network()


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_network_is_found_again_but_for_rounded_weights(
    network: ir.Model, tmp_path: Path, per_channel: bool
) -> None:
    model = planted.at_run_time(network, tmp_path, per_channel=per_channel)
    assert operators(model).count("ConvInteger") == 7
    before = run(model, planted.IMAGES)
    assert integer_to_float(model).fired == 8
    assert set(operators(model)) <= {
        "Conv", "Relu", "Add", "GlobalAveragePool", "Flatten", "MatMul",
    }  # fmt: skip
    assert operators(model).count("Add") == 4  # three sums, and the classifier's bias
    exact = run(network, planted.IMAGES)
    assert relative_error(run(model, planted.IMAGES), exact) < 0.02
    assert relative_error(run(model, planted.IMAGES), before) < 0.02
    assert integer_to_float(model).fired == 0


def test_another_form_is_refused_by_name() -> None:
    model = graph(
        """net (uint8[N,3,8,8] x) => (float[N,4,6,6] y) {
            sums = ConvInteger (x, w)
            y = Cast <to=1> (sums)
        }""",
        w=np.ones((4, 3, 3, 3), np.uint8),
    )
    with pytest.raises(InputError, match="'sums' is ConvInteger in another form"):
        integer_to_float(model)
