"""Merged groups of 8-bit convolutions: the same numbers, and where it must not fire."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.artifact import CalibrationMethod, Dialect, PassReport
from exporter.graph.files import serialize
from exporter.passes.forms.merge_groups import merge_groups, merge_groups_for_amx
from exporter.passes.qdq.insert import insert_qdq
from exporter.passes.values import dims
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from tests.graphs import Array, exact_in_any_order, graph, random, run
from tests.samples import samples_of


def grouped(groups: int, channels: int, outputs: int) -> tuple[ir.Model, Array]:
    """A quantized convolution of `groups` groups, each from `channels` to `outputs` channels."""
    model = graph(
        f"""net (float[N,{groups * channels},6,6] x) => (float[N,F,6,6] y) {{
            c = Conv <pads=[1,1,1,1], group={groups}> (x, w, b)
            y = Relu (c)
        }}""",
        w=random(groups * outputs, channels, 3, 3, seed=1),
        b=random(groups * outputs, seed=2),
    )
    images = random(2, groups * channels, 6, 6, seed=3, low=-1.0, high=2.0)
    ranges = calibrate(
        model, samples_of(images), method=CalibrationMethod.MINMAX, progress=Silent()
    )
    insert_qdq(model, ranges, Dialect.U8_ASYMMETRIC)
    return exact_in_any_order(model), images


def convolution(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type == "Conv")


@pytest.mark.parametrize(
    ("groups", "channels", "merged"),
    [(32, 4, 4), (32, 8, 8), (32, 16, 16), (32, 32, 32), (64, 4, 8), (3, 5, 1), (5, 16, 5)],
)
def test_groups_are_merged_up_to_32_channels(groups: int, channels: int, merged: int) -> None:
    _check(merge_groups, groups, channels, merged)


@pytest.mark.parametrize(
    ("groups", "channels", "merged"),
    [(32, 4, 2), (32, 8, 4), (32, 16, 8), (32, 32, 16), (64, 4, 4), (3, 5, 1), (5, 16, 5)],
)
def test_groups_are_merged_up_to_64_channels_for_amx(
    groups: int, channels: int, merged: int
) -> None:
    _check(merge_groups_for_amx, groups, channels, merged)


def _check(
    merge: Callable[[ir.Model], PassReport], groups: int, channels: int, merged: int
) -> None:
    model, images = grouped(groups, channels, channels)
    before = run(model, images)
    report = merge(model)
    conv = convolution(model)
    assert conv.attributes.get_int("group", 1) == merged
    assert dims(conv.inputs[1]) == (groups * channels, groups * channels // merged, 3, 3)
    assert report.fired == (merged != groups)
    assert np.array_equal(run(model, images), before)


@settings(max_examples=25, deadline=None)
@given(groups=st.integers(2, 12), channels=st.integers(1, 6), outputs=st.integers(1, 3))
def test_every_grouping_gives_the_same_numbers(groups: int, channels: int, outputs: int) -> None:
    model, images = grouped(groups, channels, outputs)
    before = run(model, images)
    fired = merge_groups(model).fired
    assert fired == (convolution(model).attributes.get_int("group", 1) < groups)
    assert np.array_equal(run(model, images), before)


def test_a_second_run_changes_nothing() -> None:
    model, _ = grouped(32, 4, 4)
    merge_groups(model)
    content = serialize(model)
    assert merge_groups(model).fired == 0
    assert serialize(model) == content


def test_large_groups_and_float_weights_are_left_alone() -> None:
    model, _ = grouped(2, 64, 2)
    content = serialize(model)
    assert merge_groups(model).refused == (("c", "2 groups of 64 channels"),)
    assert serialize(model) == content
    floats = graph(
        "net (float[N,4,6,6] x) => (float[N,4,4,4] y) { y = Conv <group=2> (x, w) }",
        w=random(4, 2, 3, 3),
    )
    assert merge_groups(floats).refused == (
        ("y", "its weight is no quantized constant of its own"),
    )
