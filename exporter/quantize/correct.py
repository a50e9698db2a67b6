"""Correction: the step of the INT8 lowering that runs data. It moves no scale.

1. Weights are rounded again, so that each layer's result varies least (`rounding.py`).
2. The mean error that is left is taken back by the bias:

    b'[c] = b[c] + mean over images and positions of conv(x, W - Wq)[c]

Both with the *exact* float32 inputs x of each layer, all layers at once. Fed with the quantized
inputs instead, each layer would correct again what the layers before it have corrected already, and
the result is worse than none (docs/decisions/0021).

A convolution is linear, so the mean of its results is its result on the mean input: one pass over
the data accumulates the mean input of every layer, and each layer's correction is computed once.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
section 4.2, with measured means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporter.passes.qdq.nodes import is_quantized
from exporter.passes.values import add_constant, constant, replace_constant
from exporter.progress import Progress
from exporter.quantize.exact_inputs import mean_residues, observe
from exporter.quantize.method import Correction
from exporter.quantize.quantized_layer import QuantizedLayer, quantized_layers

if TYPE_CHECKING:
    from exporter.images.samples import Samples
    from exporter.targets import Array

SAMPLES: Final = 64
"""How many of the calibration samples are used; more gained nothing that could be measured."""
LARGEST_MOMENTS_BYTES: Final = 2**30
"""The memory for moments; layers that need more are observed in several passes over the samples."""

CORRECTIONS: Final[Mapping[Correction, Mapping[str, bool]]] = {
    Correction.ALL: {},
    Correction.BIASES: {"rounding": False},
    Correction.NONE: {"rounding": False, "biases": False},
}
"""Each correction as arguments of `correct`."""


def correct(
    lowered: ir.Model,
    exact: ir.Model,
    samples: Samples,
    progress: Progress,
    *,
    rounding: bool = True,
    biases: bool = True,
) -> ir.Model:
    """A copy of an INT8 graph with weights rounded again and corrected biases.

    `exact` is the float32 graph that it was lowered from: nodes are matched by name. Without
    `rounding` the codes stay, without `biases` the biases: to see what each is worth.

    Raises:
        InputError: no samples, or samples that are not the model's input.
        BuildError: `exact` is another graph.
    """
    corrected = lowered.clone()
    if not rounding and not biases:
        return corrected
    samples = samples.take(SAMPLES)
    means: dict[str, Array] = {}
    layers = quantized_layers(corrected, exact)
    with progress.stage("correct weights and biases", len(layers)) as advance:
        for group in _groups(layers):
            inputs = observe(exact, group, samples, moments=rounding)
            means.update(inputs.means)
            for layer in group:
                if layer.name in inputs.moments:
                    layer.round(corrected.graph, inputs.moments[layer.name])
                advance(1)
    if biases:
        for layer, residue in zip(layers, mean_residues(layers, means), strict=True):
            _add_to_bias(corrected.graph, layer.lowered, residue)
    common.RemoveUnusedNodesPass()(corrected)
    return corrected


def _groups(layers: tuple[QuantizedLayer, ...]) -> Iterator[tuple[QuantizedLayer, ...]]:
    """Layers in order, as many at a time as have room for their moments."""
    group: list[QuantizedLayer] = []
    taken = 0
    for layer in layers:
        groups, columns = layer.moments_shape or (0, 0)
        size = 4 * groups * columns**2
        if group and taken + size > LARGEST_MOMENTS_BYTES:
            yield tuple(group)
            group, taken = [], 0
        group.append(layer)
        taken += size
    if group:
        yield tuple(group)


def _add_to_bias(body: ir.Graph, node: ir.Node, residue: Array) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if is_quantized(bias):
        assert bias is not None
        producer = bias.producer()
        assert producer is not None
        codes, scale = constant(producer.inputs[0]), constant(producer.inputs[1])
        assert codes is not None
        assert scale is not None
        steps = np.rint(residue / scale.astype(np.float64))
        limit = np.iinfo(np.int32)
        moved = np.clip(codes + steps, limit.min, limit.max).astype(np.int32)
        replace_constant(body, producer, 0, moved)
        return
    given = constant(bias)
    if given is None:
        dtype = node.outputs[0].dtype
        assert dtype is not None
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        node.replace_input_with(
            2, add_constant(body, f"{node.name}.bias", residue.astype(dtype.numpy()))
        )
        return
    moved = (given.reshape(-1).astype(np.float64) + residue).astype(given.dtype)
    replace_constant(body, node, 2, moved)
