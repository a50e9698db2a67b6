"""The strided 8-bit stem on rearranged pixels: the same numbers, and where it must not fire."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.artifact import CalibrationMethod, Dialect
from exporter.graph.files import serialize
from exporter.passes.forms.space_to_depth_stem import space_to_depth_stem
from exporter.passes.qdq.insert import insert_qdq
from exporter.passes.values import constant, dims
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from tests.graphs import Array, exact_in_any_order, graph, operators, random, run
from tests.samples import samples_of


def stem(
    kernel: tuple[int, int] = (7, 7),
    pads: tuple[int, ...] = (3, 3, 3, 3),
    size: tuple[int, int] = (16, 12),
    *,
    channels: int = 3,
    strides: str = "2,2",
    dilations: str = "1,1",
    then: str = "y = Relu (c)",
) -> tuple[ir.Model, Array]:
    """A quantized stem and images for it."""
    h, w = size
    padding = f"pads=[{','.join(map(str, pads))}]" if pads else 'auto_pad="SAME_UPPER"'
    model = graph(
        f"""net (float[N,{channels},{h},{w}] x) => (float[N,F,A,B] y) {{
            c = Conv <{padding}, strides=[{strides}], dilations=[{dilations}]> (x, w, b)
            {then}
        }}""",
        w=random(8, channels, *kernel, seed=1),
        b=random(8, seed=2),
    )
    # Asymmetric, so that the zero point of the padding is not 0.
    images = random(3, channels, h, w, seed=3, low=-1.0, high=2.0)
    ranges = calibrate(
        model, samples_of(images), method=CalibrationMethod.MINMAX, progress=Silent()
    )
    insert_qdq(model, ranges, Dialect.U8_ASYMMETRIC)
    return exact_in_any_order(model), images


def test_the_stem_of_resnet_is_a_4x4_convolution_on_12_channels() -> None:
    model, images = stem()
    before = run(model, images)
    report = space_to_depth_stem(model)
    assert (report.fired, report.refused) == (1, ())
    conv = next(node for node in model.graph if node.op_type == "Conv")
    assert conv.attributes.get_ints("kernel_shape") == (4, 4)
    assert conv.attributes.get_ints("pads") == (2, 2, 1, 1)
    assert dims(conv.inputs[0]) == ("N", 12, 8, 6)
    assert np.array_equal(run(model, images), before)


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    half=st.tuples(st.integers(4, 7), st.integers(4, 7)),
    channels=st.integers(1, 4),
)
def test_every_window_gives_the_same_numbers_or_is_left_alone(
    kernel: tuple[int, int],
    pads: tuple[int, int, int, int],
    half: tuple[int, int],
    channels: int,
) -> None:
    model, images = stem(kernel, pads, (2 * half[0], 2 * half[1]), channels=channels)
    content, before = serialize(model), run(model, images)
    report = space_to_depth_stem(model)
    if report.fired:
        assert np.array_equal(run(model, images), before)
    else:
        assert report.refused == (("c", "its window leaves part of the input out"),)
        assert serialize(model) == content


def test_a_second_run_changes_nothing() -> None:
    model, _ = stem()
    space_to_depth_stem(model)
    content = serialize(model)
    assert space_to_depth_stem(model).fired == 0
    assert serialize(model) == content


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": (15, 12)}, "odd"),
        ({"strides": "1,1"}, "stride is not 2"),
        ({"dilations": "2,2"}, "dilated"),
        ({"channels": 5}, "5 channels"),
        ({"pads": ()}, "padding is not explicit"),
        ({"then": "d = Conv <pads=[3,3,3,3], strides=[2,2]> (x, w) y = Add (c, d)"}, "2 readers"),
    ],
)
def test_where_it_must_not_fire(change: dict[str, object], reason: str) -> None:
    model, _ = stem(**change)  # type: ignore[arg-type]
    content = serialize(model)
    report = space_to_depth_stem(model)
    assert report.fired == 0
    assert reason in report.refused[0][1]
    assert serialize(model) == content


def test_an_image_with_channels_last_is_rearranged_too() -> None:
    model = graph(
        """net (float[N,16,12,3] x) => (float[N,F,A,B] y) {
            t = Transpose <perm=[0,3,1,2]> (x)
            y = Conv <pads=[3,3,3,3], strides=[2,2]> (t, w, b)
        }""",
        w=random(8, 3, 7, 7, seed=1),
        b=random(8, seed=2),
    )
    images = random(3, 16, 12, 3, seed=3, low=-1.0, high=2.0)
    ranges = calibrate(
        model, samples_of(images), method=CalibrationMethod.MINMAX, progress=Silent()
    )
    insert_qdq(model, ranges, Dialect.U8_ASYMMETRIC)
    before = run(exact_in_any_order(model), images)
    assert space_to_depth_stem(model).fired == 1
    assert np.array_equal(run(model, images), before)


def test_a_float_stem_is_not_touched() -> None:
    model = graph(
        "net (float[N,3,16,16] x) => (float[N,8,8,8] y) {"
        " y = Conv <pads=[3,3,3,3], strides=[2,2]> (x, w) }",
        w=random(8, 3, 7, 7),
    )
    assert space_to_depth_stem(model).fired == 0
    assert operators(model) == ["Conv"]


def test_the_weight_keeps_every_code_once() -> None:
    model, _ = stem()
    before = _weight(model)
    space_to_depth_stem(model)
    after = _weight(model)
    assert after.shape == (8, 12, 4, 4)
    assert np.array_equal(np.sort(before[before != 0]), np.sort(after[after != 0]))


def _weight(model: ir.Model) -> Array:
    conv = next(node for node in model.graph if node.op_type == "Conv")
    weight = conv.inputs[1]
    assert weight is not None
    producer = weight.producer()
    assert producer is not None
    codes = constant(producer.inputs[0])
    assert codes is not None
    return codes
