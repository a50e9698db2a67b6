"""The preprocessing inside the engines (`--bake-preprocess`): they take 8-bit images.

Calibration, correction and the portable files under `onnx/` know nothing of it: each lowered graph
is baked last. All that is compared or timed is given the same images, and eager PyTorch normalises
them first (so does an ONNX file, in front of what was given): parity is against the two-step path.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import Model, PassReport, Preprocessing, Skipped, TensorSpec
from exporter.errors import UsageError
from exporter.graph.files import check
from exporter.images.pixels import nearest_pixels
from exporter.passes.bake.float_forms import prefix
from exporter.passes.bake.image_input import ImageInput
from exporter.passes.bake.preprocess import bake_preprocess
from exporter.progress import Progress
from exporter.runtime.layout import height_width_channels

if TYPE_CHECKING:
    from exporter.images.samples import Samples

_BATCH: Final = 32
"""How many inputs are turned into pixels at a time."""


def from_images(model: Model) -> Model:
    """The same model, taking (N, H, W, C) uint8 images at the crop size.

    Raises:
        UsageError: it takes pixels itself, or does not say how images become its input.
    """
    if model.spec.input.dtype == "uint8":
        raise UsageError(
            f"--bake-preprocess: {model.spec.name} takes 8-bit pixels itself; leave it out"
        )
    contract = _contract(model)
    batch, *image = model.spec.input.shape
    images = TensorSpec(model.spec.input.name, "uint8", (batch, *height_width_channels(image)))
    spec = replace(model.spec, input=images)
    if model.module is None:
        assert model.given is not None, "an ONNX file was given"
        return replace(model, spec=spec, given=taking_images(model.given, contract))
    from exporter.models.from_images import FromImages

    return replace(model, spec=spec, module=FromImages(model.module, contract))


def with_images(model: Model, inputs: Samples, progress: Progress) -> tuple[Model, Samples]:
    """The model taking images, and its normalised inputs as images (H, W, C).

    Where they were none to begin with (synthetic inputs, ready tensors), each value becomes the
    nearest pixel, and a note says so.

    Raises:
        UsageError: see `from_images`.
    """
    taking_images = from_images(model)
    contract = _contract(model)

    def nearest(batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], bool]:
        return nearest_pixels(batch, contract)

    if not all(nearest(batch)[1] for batch in inputs.batches(_BATCH)):
        progress.note("the evaluation inputs were rounded to 8-bit pixels, for engines take images")
    return taking_images, inputs.map(lambda image: nearest(image[None])[0][0])


def bake(model: Model, graph: ir.Model, exact: ir.Model) -> tuple[ir.Model, PassReport]:
    """A lowered graph that takes images, and what the pass did; the given one stays.

    `exact` is the optimized float graph that it was lowered from.

    Raises:
        UsageError: the model cannot be baked (see `from_images`).
        BuildError: the result is not valid ONNX.
    """
    baked = graph.clone()
    report = bake_preprocess(baked, _contract(model), exact)
    if not report.fired:
        raise UsageError(f"--bake-preprocess: {model.spec.name}: {report.refused[0][1]}")
    common.ShapeInferencePass()(baked)
    check(baked)
    return baked, report


def taking_images(given: bytes, contract: Preprocessing) -> bytes:
    """An ONNX file that normalises images in front of what the given one does."""
    graph = ir.from_proto(onnx.load_model_from_string(given))
    image = ImageInput.of(graph.graph, contract)
    prefix(image)
    taking: bytes = ir.to_proto(graph).SerializeToString(deterministic=True)
    return taking


def _contract(model: Model) -> Preprocessing:
    spec = model.spec
    if isinstance(spec.preprocessing, Skipped):
        raise UsageError(
            f"--bake-preprocess: how images become the input of {spec.name} is not known "
            f"({spec.preprocessing.skipped}); give --mean and --std, or --preprocessing FILE.json"
        )
    return spec.preprocessing
