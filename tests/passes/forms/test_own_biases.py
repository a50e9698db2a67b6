"""A bias that several convolutions share becomes one each: the same numbers, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from exporter.artifact import Precision
from exporter.graph.files import serialize
from exporter.passes.convert_floats import convert_floats
from exporter.passes.forms.own_biases import own_biases
from exporter.passes.values import is_op
from exporter.targets.int8_forms import OPENVINO_FLOAT, rewritten
from tests.graphs import graph, random, run


def network(second: str) -> ir.Model:
    """Two convolutions with the bias `b`, and one with the bias `second`."""
    return graph(
        f"""net (float[N,3,6,6] x) => (float[N,3,2,2] y) {{
            a = Conv (x, w, b)
            r = Relu (a)
            c = Conv (x, w, b)
            s = Add (r, c)
            y = Conv (s, w, {second})
        }}""",
        w=random(3, 3, 3, 3, seed=1),
        b=random(3, seed=2),
        other=random(3, seed=3),
    )


def biases(model: ir.Model) -> list[ir.Value | None]:
    return [node.inputs[2] for node in model.graph if is_op(node, "Conv")]


def test_each_convolution_gets_its_own() -> None:
    model = network("other")
    images = random(2, 3, 6, 6, seed=4)
    before = run(model, images)
    assert own_biases(model).fired == 1  # the last reader keeps it
    assert len(set(biases(model))) == 3
    np.testing.assert_array_equal(run(model, images), before)
    assert own_biases(model).fired == 0


def test_a_bias_of_three_is_copied_twice() -> None:
    model = network("b")
    assert own_biases(model).fired == 2
    assert len(set(biases(model))) == 3


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_reduced_precisions_are_proved_equal_as_well(precision: Precision) -> None:
    model = network("b")
    convert_floats(model, precision, ())
    content = rewritten(serialize(model), OPENVINO_FLOAT)
    assert len(set(biases(ir.from_proto(onnx.load_model_from_string(content))))) == 3
