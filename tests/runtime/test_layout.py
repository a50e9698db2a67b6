"""One rule for the layout of an input, and everybody follows it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporter.artifact import Interpolation, Preprocessing
from exporter.images.pixels import recover_pixels
from exporter.images.synthetic import synthetic_inputs
from exporter.passes.bake.preprocess import bake_preprocess
from exporter.runtime.images import Normalisation
from exporter.runtime.layout import Layout, height_width_channels, layout_of
from tests.graphs import graph, random

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTRACT = Preprocessing(None, 8, Interpolation.NONE, MEAN, STD, "a test")
RGB = [
    ((3, 8, 10), Layout.NCHW),
    ((8, 10, 3), Layout.NHWC),
    ((3, 8, 3), Layout.NCHW),  # either reading is an image: PyTorch's order
]


@pytest.mark.parametrize(
    ("image", "layout", "hwc"),
    [
        ((3, 8, 10), Layout.NCHW, (8, 10, 3)),
        ((8, 10, 3), Layout.NHWC, (8, 10, 3)),
        ((8, 10, 1), Layout.NHWC, (8, 10, 1)),
        ((8, 10, 4), Layout.NHWC, (8, 10, 4)),
        ((4, 8, 10), Layout.NCHW, (8, 10, 4)),
        ((1, 8, 3), Layout.NCHW, (8, 3, 1)),
        ((3, 8, 3), Layout.NCHW, (8, 3, 3)),
        ((None, None, 3), Layout.NHWC, (None, None, 3)),
        ((3, None, None), Layout.NCHW, (None, None, 3)),
        (("height", "width", 3), Layout.NHWC, ("height", "width", 3)),
    ],
)
def test_the_rule(
    image: tuple[int | str | None, ...], layout: Layout, hwc: tuple[int | str | None, ...]
) -> None:
    assert layout_of(image) is layout
    assert height_width_channels(image) == hwc


@pytest.mark.parametrize("image", [(8, 10, 4), (4, 8, 10), (8, 10, 1), (1, 8, 3)])
def test_synthetic_images_share_a_structure_over_the_channels(image: tuple[int, ...]) -> None:
    (made,) = synthetic_inputs(image, 1, seed=0)
    assert made.shape == image
    planes = made if layout_of(image) is Layout.NCHW else made.transpose(2, 0, 1)
    rows = planes.reshape(len(planes), -1)
    assert np.corrcoef(rows).min() > 0.5 if len(rows) > 1 else True


@pytest.mark.parametrize(("image", "layout"), RGB)
def test_pixels_come_back_in_every_layout(image: tuple[int, ...], layout: Layout) -> None:
    height, width, _ = height_width_channels(image)
    pixels = np.random.RandomState(0).randint(0, 256, (2, height, width, 3)).astype(np.uint8)
    inputs = Normalisation(MEAN, STD, dtype=np.dtype(np.float32), layout=layout)(pixels)
    assert inputs.shape[1:] == image
    recovered = recover_pixels(inputs, CONTRACT)
    assert recovered is not None
    assert (recovered == pixels).all()


@pytest.mark.parametrize(("image", "layout"), RGB)
def test_baking_puts_the_channels_last(image: tuple[int, ...], layout: Layout) -> None:
    sizes = ",".join(map(str, image))
    model = graph(
        f"net (float[N,{sizes}] x) => (float[N,{sizes}] y) {{ y = Add (x, k) }}", k=random(1)
    )
    assert bake_preprocess(model, CONTRACT).fired == 1
    expected = ("N", *height_width_channels(image))
    assert model.graph.inputs[0].dtype is ir.DataType.UINT8
    assert (
        tuple(d if isinstance(d, int) else d.value for d in model.graph.inputs[0].shape or ())
        == expected
    )
    assert ("Transpose" in [node.op_type for node in model.graph]) is (layout is Layout.NCHW)
