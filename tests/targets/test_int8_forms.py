"""Forms of INT8 graphs prove that they are equal: a wrong one is named, the right ones pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from exporter.artifact import CalibrationMethod, Dialect, PassReport
from exporter.errors import BuildError
from exporter.graph.files import serialize
from exporter.passes.forms.merge_groups import merge_groups
from exporter.passes.forms.space_to_depth_stem import space_to_depth_stem
from exporter.passes.qdq.insert import insert_qdq
from exporter.passes.qdq.nodes import quantized_weight
from exporter.passes.values import constant, is_op, replace_constant
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from exporter.targets import int8_forms
from tests.graphs import graph, random
from tests.samples import samples_of

Codes = np.ndarray


@pytest.fixture(scope="module")
def content() -> bytes:
    """A strided stem and a grouped convolution, quantized."""
    model = graph(
        """net (float[N,3,16,16] x) => (float[N,8,8,8] y) {
            c = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w, b)
            r = Relu (c)
            d = Conv <pads=[1,1,1,1], group=4> (r, k, b)
            y = Relu (d)
        }""",
        w=random(8, 3, 3, 3, seed=1),
        k=random(8, 2, 3, 3, seed=2),
        b=random(8, seed=3),
    )
    images = random(4, 3, 16, 16, seed=4, low=-2.0, high=2.5)
    ranges = calibrate(
        model, samples_of(images), method=CalibrationMethod.MINMAX, progress=Silent()
    )
    insert_qdq(model, ranges, Dialect.U8_ASYMMETRIC)
    return serialize(model)


def changing(group: int, change: Callable[[Codes], Codes]) -> int8_forms.Form:
    """A form that changes the codes of the convolution with so many groups."""

    def form(model: ir.Model) -> PassReport:
        convs = [node for node in model.graph if is_op(node, "Conv")]
        conv = next(node for node in convs if node.attributes.get_int("group", 1) == group)
        weight = quantized_weight(conv)
        assert weight is not None
        dequantize, codes = weight
        replace_constant(model.graph, dequantize, 0, np.ascontiguousarray(change(codes)))
        return PassReport("changing", 1)

    return form


def without_zero_point(model: ir.Model) -> PassReport:
    node = next(node for node in model.graph if is_op(node, "DequantizeLinear"))
    zero = constant(node.inputs[2])
    assert zero is not None
    replace_constant(model.graph, node, 2, np.zeros_like(zero))
    return PassReport("without_zero_point", 1)


@pytest.mark.parametrize(
    "wrong",
    [
        changing(1, lambda codes: codes[:, ::-1]),
        changing(1, lambda codes: codes[..., ::-1]),
        changing(4, lambda codes: np.roll(codes, 2, axis=0)),
        changing(4, lambda codes: codes * np.array([1, 0], codes.dtype).reshape(1, 2, 1, 1)),
        without_zero_point,
    ],
    ids=["channels", "columns", "groups", "half a group", "zero point"],
)
def test_a_form_with_other_numbers_is_named(content: bytes, wrong: int8_forms.Form) -> None:
    forms = (space_to_depth_stem, wrong) if wrong is without_zero_point else (wrong, merge_groups)
    with pytest.raises(BuildError, match=r"the pass (changing|without_zero_point) changes") as bad:
        int8_forms.rewritten(content, forms)
    assert "\n" not in str(bad.value)


@pytest.mark.parametrize("forms", [int8_forms.ORT_CPU, int8_forms.ORT_CPU_AMX, int8_forms.OPENVINO])
def test_the_forms_that_are_used_pass(content: bytes, forms: tuple[int8_forms.Form, ...]) -> None:
    assert onnx.load_model_from_string(int8_forms.rewritten(content, forms)).graph.node
