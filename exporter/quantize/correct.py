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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common
from onnx_ir.tape import Tape

from exporter.artifact import Correction
from exporter.errors import BuildError
from exporter.graph.files import serialize
from exporter.host import usable_threads
from exporter.models.onnx_format import IR_VERSION, OPSET
from exporter.passes.expose_tensors import expose
from exporter.passes.qdq.arithmetic import dequantize
from exporter.passes.qdq.nodes import is_quantized
from exporter.passes.values import add_constant, constant, dims, is_op, replace_constant
from exporter.progress import Progress
from exporter.quantize.calibrate import images
from exporter.quantize.rounding import Moments, columns_of, moments_shape, round_columns

if TYPE_CHECKING:
    from exporter.images.samples import Samples
    from exporter.targets import Array


SAMPLES: Final = 64
"""Calibration samples that are used; more gained nothing that could be measured."""
LARGEST_MOMENTS_BYTES: Final = 2**30
"""Of the layers that are observed in one pass over the samples."""


CORRECTIONS: Final[Mapping[Correction, Mapping[str, bool]]] = {
    Correction.ALL: {},
    Correction.BIASES: {"rounding": False},
    Correction.NONE: {"rounding": False, "biases": False},
}
"""Each correction as arguments of `correct`."""


@dataclass(frozen=True)
class _Layer:
    """A Conv or Gemm whose weight is in 8 bits, beside the same node of the exact graph."""

    lowered: ir.Node
    exact: ir.Node
    weight: Array
    """The exact weight W, float32."""

    @property
    def name(self) -> str:
        return str(self.exact.name)

    @property
    def input(self) -> str:
        """The name of the exact graph's tensor that it reads."""
        value = self.exact.inputs[0]
        assert value is not None
        return str(value.name)

    @property
    def kernel(self) -> tuple[int, int]:
        """(kH, kW); (1, 1) for a Gemm."""
        shape = self.weight.shape
        return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)

    @property
    def moments_shape(self) -> tuple[int, int] | None:
        return moments_shape(self.exact, self.weight.shape)

    def residue(self) -> Array:
        """W - Wq, float32, shaped as the weight."""
        return self.weight - dequantize(*self._quantized())

    def round(self, graph: ir.Graph, moments: Moments | None) -> None:
        """Replaces the codes; without moments they stay."""
        if moments is None:
            return
        codes, scale, axis = self._quantized()
        rows = np.moveaxis(self.weight, axis, 0)
        groups = self.exact.attributes.get_int("group", 1)
        per_group = len(rows) // groups
        flat = rows.reshape(len(rows), -1)
        rounded = np.empty(flat.shape, np.int8)
        largest = int(np.abs(codes.astype(np.int16)).max())  # less than 127 in a reduced range
        for group in range(groups):
            part = slice(group * per_group, (group + 1) * per_group)
            rounded[part] = round_columns(
                flat[part], scale[part].astype(np.float32), moments.covariance(group), largest
            )
        result = np.ascontiguousarray(np.moveaxis(rounded.reshape(rows.shape), 0, axis))
        assert result.shape == codes.shape
        replace_constant(graph, self._dequantize(), 0, result)

    def _dequantize(self) -> ir.Node:
        weight = self.lowered.inputs[1]
        assert weight is not None
        producer = weight.producer()
        assert producer is not None
        return producer

    def _quantized(self) -> tuple[Array, Array, int]:
        """Codes, scale (C,) and the channels' axis."""
        node = self._dequantize()
        codes, scale = constant(node.inputs[0]), constant(node.inputs[1])
        assert codes is not None
        assert scale is not None
        return codes, scale, node.attributes.get_int("axis", 1)


@dataclass(frozen=True)
class _Seen:
    """What a pass over the samples tells of some layers."""

    means: dict[str, Array]
    """Tensor -> its mean over the samples, (1, C, H, W) or (1, C), float32."""
    moments: dict[str, Moments]
    """Layer -> the moments of its inputs."""


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
    few = samples.take(SAMPLES)
    means: dict[str, Array] = {}
    layers = _layers(corrected, exact)
    with progress.stage("correct weights and biases", len(layers)) as advance:
        for group in _groups(layers):
            seen = _observe(exact, group, few, moments=rounding)
            means.update(seen.means)
            for layer in group:
                layer.round(corrected.graph, seen.moments.get(layer.name))
                advance(1)
    if biases:
        for layer, shift in zip(layers, _shifts(layers, means), strict=True):
            _add_to_bias(corrected.graph, layer.lowered, shift)
    common.RemoveUnusedNodesPass()(corrected)
    return corrected


def _layers(lowered: ir.Model, exact: ir.Model) -> tuple[_Layer, ...]:
    originals = {str(node.name): node for node in exact.graph}
    layers = []
    for node in lowered.graph:
        if not is_op(node, "Conv", "Gemm") or not is_quantized(node.inputs[1]):
            continue
        original = originals.get(str(node.name))
        weight = None if original is None else constant(original.inputs[1])
        if original is None or weight is None or weight.shape != dims(node.inputs[1]):
            raise BuildError(
                f"the exact graph has no {node.op_type} {node.name} of the lowered graph's shape; "
                "give the graph that was lowered"
            )
        layers.append(_Layer(node, original, weight.astype(np.float32)))
    return tuple(layers)


def _groups(layers: tuple[_Layer, ...]) -> Iterator[tuple[_Layer, ...]]:
    """Layers in order, as many at a time as have room for their moments."""
    group: list[_Layer] = []
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


def _observe(
    exact: ir.Model, layers: tuple[_Layer, ...], samples: Samples, *, moments: bool
) -> _Seen:
    """One pass over the samples, in float32; without `moments` for the means alone."""
    from exporter.targets.ort.session import OrtSession, make_session, session_options

    source = str(exact.graph.inputs[0].name)
    names = tuple(dict.fromkeys(layer.input for layer in layers))
    copy = exact.clone()
    inner = [name for name in names if name != source]
    if inner:  # else the graph keeps its own output: it must have one
        copy.graph.outputs.clear()
        expose(copy, inner)
    sums: dict[str, npt.NDArray[np.float64]] = {}
    collected = {
        layer.name: Moments(*layer.moments_shape)
        for layer in layers
        if moments and layer.moments_shape
    }
    session = OrtSession(make_session(serialize(copy), session_options(usable_threads())))
    with session:
        for image in images(samples, dims(exact.graph.inputs[0]) or ()):
            found = {**session.run_named({source: image}), source: image}
            for name in names:
                x = found[name][:1]
                sums.setdefault(name, np.zeros(x.shape))
                sums[name] += x
            for layer in layers:
                if layer.name in collected:
                    x = found[layer.input][:1]
                    collected[layer.name].add(columns_of(layer.exact, x, layer.kernel))
    means = {name: (total / samples.count).astype(np.float32) for name, total in sums.items()}
    return _Seen(means, collected)


def _shifts(layers: tuple[_Layer, ...], means: dict[str, Array]) -> list[Array]:
    """For each layer the mean over positions of its result on the mean input with W - Wq, (C,)."""
    from exporter.targets.ort.session import OrtSession, make_session, session_options

    inputs = {
        layer.input: ir.val(layer.input, ir.DataType.FLOAT, means[layer.input].shape)
        for layer in layers
    }
    tape = Tape()
    outputs = [
        tape.op(
            layer.exact.op_type,
            [
                inputs[layer.input],
                tape.initializer(ir.tensor(layer.residue(), name=f"residue{number}")),
            ],
            {name: attribute.value for name, attribute in layer.exact.attributes.items()},
            output=ir.val(f"shift{number}", ir.DataType.FLOAT),
        )
        for number, layer in enumerate(layers)
    ]
    graph = ir.Graph(
        list(inputs.values()),
        outputs,
        nodes=tape.nodes,
        initializers=tape.initializers,
        opset_imports={"": OPSET},
        name="shifts",
    )
    model = ir.Model(graph, ir_version=IR_VERSION)
    with OrtSession(make_session(serialize(model), session_options(usable_threads()))) as session:
        found = session.run_named({name: means[name] for name in inputs})
    results = [found[f"shift{number}"].astype(np.float64) for number in range(len(layers))]
    return [result.reshape(*result.shape[:2], -1).mean(axis=(0, 2)) for result in results]


def _add_to_bias(graph: ir.Graph, node: ir.Node, shift: Array) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if is_quantized(bias):
        assert bias is not None
        producer = bias.producer()
        assert producer is not None
        codes, scale = constant(producer.inputs[0]), constant(producer.inputs[1])
        assert codes is not None
        assert scale is not None
        steps = np.rint(shift / scale.astype(np.float64))
        limit = np.iinfo(np.int32)
        moved = np.clip(codes + steps, limit.min, limit.max).astype(np.int32)
        replace_constant(graph, producer, 0, moved)
        return
    given = constant(bias)
    if given is None:
        dtype = node.outputs[0].dtype
        assert dtype is not None
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        node.replace_input_with(
            2, add_constant(graph, f"{node.name}.bias", shift.astype(dtype.numpy()))
        )
        return
    moved = (given.reshape(-1).astype(np.float64) + shift).astype(given.dtype)
    replace_constant(graph, node, 2, moved)
