"""The preprocessing inside the engines (`--bake-preprocess`): they take 8-bit images.

Calibration, correction and the portable files under `onnx/` know nothing of it: each lowered graph
is baked last. All that is compared or timed is given the same images, and eager PyTorch normalises
them first, so that parity is against the two-step path.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from onnx_ir.passes import common

from exporter.artifact import Model, PassReport, Preprocessing, Skipped, TensorSpec
from exporter.errors import UsageError
from exporter.graph.files import check
from exporter.images.pixels import nearest_pixels
from exporter.passes.bake.preprocess import bake_preprocess
from exporter.progress import Progress

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.images.samples import Samples

_BATCH: Final = 32
"""How many inputs are turned into pixels at a time."""


def from_images(model: Model) -> Model:
    """The same model, taking (N, H, W, 3) uint8 images at the crop size.

    Raises:
        UsageError: it is an ONNX file, or does not say how images become its input.
    """
    contract = _contract(model)
    assert model.module is not None
    from exporter.models.from_images import FromImages

    batch, _, height, width = model.spec.input.shape
    images = TensorSpec(model.spec.input.name, "uint8", (batch, height, width, 3))
    return replace(
        model,
        spec=replace(model.spec, input=images),
        module=FromImages(model.module, contract.mean, contract.std),
    )


def with_images(model: Model, inputs: Samples, progress: Progress) -> tuple[Model, Samples]:
    """The model taking images, and its normalised inputs, each (3, H, W), as images (H, W, 3).

    Where they were none to begin with (synthetic inputs, ready tensors), each value becomes the
    nearest pixel, and a note says so.

    Raises:
        UsageError: see `from_images`.
    """
    contract = _contract(model)

    def nearest(batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], bool]:
        return nearest_pixels(batch, contract.mean, contract.std)

    if not all(nearest(batch)[1] for batch in inputs.batches(_BATCH)):
        progress.note("the evaluation inputs were rounded to 8-bit pixels, for engines take images")
    return from_images(model), inputs.map(lambda image: nearest(image[None])[0][0])


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


def _contract(model: Model) -> Preprocessing:
    contract = model.spec.preprocessing
    if isinstance(contract, Skipped) or model.module is None:
        why = contract.skipped if isinstance(contract, Skipped) else "it is an ONNX file"
        raise UsageError(
            f"--bake-preprocess: how images become the input of {model.spec.name} is not known "
            f"({why}); leave it out, or export a built-in or timm model"
        )
    return contract
