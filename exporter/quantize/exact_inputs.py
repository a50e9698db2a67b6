"""What each layer meets in the exact float32 graph, and what its rounded weights make of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.tape import Tape

from exporter.graph.files import serialize
from exporter.host import usable_threads
from exporter.models.onnx_format import IR_VERSION, OPSET
from exporter.passes.expose_tensors import expose
from exporter.quantize.one_at_a_time import images_for
from exporter.quantize.quantized_layer import QuantizedLayer
from exporter.quantize.rounding import Moments, columns_of
from exporter.runtime.inputs import by_name

if TYPE_CHECKING:
    from exporter.images.samples import Samples
    from exporter.targets import Array


@dataclass(frozen=True)
class ExactInputs:
    """What one pass over the samples tells of the inputs of some layers."""

    means: dict[str, Array]
    """Tensor -> its mean over the samples, (1, C, H, W) or (1, C), float32."""
    moments: dict[str, Moments]
    """Layer -> the moments of its inputs."""


def observe(
    exact: ir.Model, layers: Sequence[QuantizedLayer], samples: Samples, *, moments: bool
) -> ExactInputs:
    """One pass over the samples, in float32; without `moments` for the means alone."""
    from exporter.targets.ort.session import OrtSession, make_session, session_options

    source = str(exact.graph.inputs[0].name)
    names = tuple(dict.fromkeys(layer.input for layer in layers))
    copy = exact.clone()
    given = {str(value.name) for value in exact.graph.inputs}
    inner = [name for name in names if name not in given]
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
        for image in images_for(exact, samples):
            feeds = by_name(image, source)
            found = {**session.run_named(feeds), **feeds}
            for name in names:
                x = found[name][:1]
                sums.setdefault(name, np.zeros(x.shape))
                sums[name] += x
            for layer in layers:
                if layer.name in collected:
                    x = found[layer.input][:1]
                    collected[layer.name].add(columns_of(layer.exact, x, layer.kernel))
    means = {name: (total / samples.count).astype(np.float32) for name, total in sums.items()}
    return ExactInputs(means, collected)


def mean_residues(layers: Sequence[QuantizedLayer], means: Mapping[str, Array]) -> list[Array]:
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
            output=ir.val(f"mean{number}", ir.DataType.FLOAT),
        )
        for number, layer in enumerate(layers)
    ]
    graph = ir.Graph(
        list(inputs.values()),
        outputs,
        nodes=tape.nodes,
        initializers=tape.initializers,
        opset_imports={"": OPSET},
        name="residues",
    )
    model = ir.Model(graph, ir_version=IR_VERSION)
    with OrtSession(make_session(serialize(model), session_options(usable_threads()))) as session:
        found = session.run_named({name: means[name] for name in inputs})
    results = [found[f"mean{number}"].astype(np.float64) for number in range(len(layers))]
    return [result.reshape(*result.shape[:2], -1).mean(axis=(0, 2)) for result in results]
