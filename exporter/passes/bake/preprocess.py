"""Put the preprocessing into the graph: it then takes uint8 images (N, H, W, C) at the crop size.

    x = (p / 255 - mean) / std,   y = Conv(x, W, b) with zero padding

Three forms, the first that applies:

    folded     the input's only reader is a float convolution          `float_forms.py`
    identity   INT8 `u8-asymmetric`: the pixel is the code             `identity_form.py`
    prefix     anything else: FP16, other dialects, NHWC inputs        `float_forms.py`

Must not fire: the input is no float image with as many channels as are normalised.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from exporter.artifact import PassReport, Preprocessing
from exporter.passes.bake.float_forms import fold, prefix
from exporter.passes.bake.identity_form import take_pixels_as_codes
from exporter.passes.bake.image_input import ImageInput, why_no_image


def bake_preprocess(
    graph: ir.Model, preprocessing: Preprocessing, exact: ir.Model | None = None
) -> PassReport:
    """Makes the graph's first input uint8 (N, H, W, C); its name and the output stay.

    `exact` is the optimized float graph, whose weights the identity form quantizes. Where it came
    to the prefix, `refused` says why to no better form.
    """
    name = str(graph.graph.inputs[0].name)
    reason = why_no_image(graph.graph.inputs[0], preprocessing)
    if reason:
        return PassReport("bake_preprocess", 0, ((name, reason),))
    image = ImageInput.of(graph.graph, preprocessing)
    refused: tuple[tuple[str, str], ...] = ()
    why_not_folded = fold(image)
    why_not_identity = take_pixels_as_codes(image, exact) if why_not_folded else None
    if why_not_folded and why_not_identity:
        prefix(image)
        refused = ((name, f"not folded: {why_not_folded}; no identity: {why_not_identity}"),)
    common.RemoveUnusedNodesPass()(graph)
    return PassReport("bake_preprocess", 1, refused)
