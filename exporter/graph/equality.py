"""Whether two graphs answer alike: each is run on the same random images, optimizations off.

Two graphs that stand for one function differ by the rounding of float32 alone: 1e-6 in a usual
network, more in one that magnifies small errors, or in which large numbers cancel. How much more is
seen from the graph itself, whose images and weights are moved by a few units in the last place.
ONNX Runtime has no float64 convolution, and ONNX's reference evaluator takes a minute for what
takes a tenth of a second here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.errors import BuildError
from exporter.graph.files import serialize
from exporter.models.difference import relative_difference
from exporter.runtime.errors import reason_of
from exporter.runtime.inputs import by_name, joined

Array = npt.NDArray[Any]
Answers = Mapping[str, Array]
Outputs = tuple[Array, ...]

LIMIT: Final = 1e-5
"""The relative difference below which two answers are alike: the certificate of FP32 allows less
than half of it."""
_NUDGE: Final = 2.0**-22
"""How far images and weights are moved to see what rounding does: a few units in the last place."""
_WEIGHTED: Final = frozenset({"Conv", "Gemm", "MatMul", "BatchNormalization", "Add", "Sub", "Mul"})
_TIMES_ROUNDING: Final = 8
"""How many times that a rewrite may change the answer."""
_PIXELS: Final = 256


def why_not_proved() -> str | None:
    """Why nothing can be run here to compare graphs; None: it can."""
    try:
        import onnxruntime  # noqa: F401 - what runs them
    except ModuleNotFoundError:
        return (
            "that the rewrites of the graph change no number was not proved: ONNX Runtime, which "
            "runs the graphs before and after, is not installed"
        )
    return None


def random_images(graph: ir.Model, batch: int = 2) -> Array:
    """A seeded batch of N images as the graph takes them; N is `batch` where it is dynamic."""
    random = np.random.RandomState(0)

    def drawn(value: ir.Value) -> Array:
        assert value.shape is not None
        assert value.dtype is not None
        sizes = [size if isinstance(size, int) else batch for size in value.shape]
        kind = value.dtype.numpy()
        if kind.kind in "iu":
            return random.randint(0, _PIXELS, sizes).astype(kind)
        return random.standard_normal(sizes).astype(kind)

    tensors = {str(value.name): drawn(value) for value in graph.graph.inputs}
    return joined(tensors) if len(tensors) > 1 else next(iter(tensors.values()))


def answer(graph: ir.Model, images: Array) -> Outputs:
    """What the graph's outputs are for the images, in order.

    Raises:
        BuildError: ONNX Runtime does not run it.
    """
    return tuple(answers(graph, images).values())


def difference(found: Outputs, expected: Outputs) -> float:
    """The relative difference of the outputs that differ most."""
    return max(map(relative_difference, found, expected))


def answers(graph: ir.Model, images: Array, tensors: Collection[str] = ()) -> Answers:
    """What the graph's outputs, and those tensors inside it, are for the images, by name.

    Raises:
        BuildError: ONNX Runtime does not run it.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what goes wrong is in the exception
    options.add_session_config_entry("session.disable_prepacking", "1")  # one run does not pay it
    if tensors:
        graph = graph.clone()
        inner = [v for node in graph.graph for v in node.outputs if not v.is_graph_output()]
        graph.graph.outputs.extend(value for value in inner if value.name in tensors)
    try:
        session = ort.InferenceSession(
            serialize(graph), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        found = session.run(None, by_name(images, session.get_inputs()[0].name))
    except Exception as error:  # its exceptions share no narrower base
        reason = reason_of(error, 300)
        raise BuildError(f"onnxruntime does not run the graph: {reason}") from error
    return dict(zip((value.name for value in session.get_outputs()), found, strict=True))


def alike(
    found: Outputs, own: Outputs, graph: ir.Model, images: Array, limit: float = LIMIT
) -> bool:
    """Whether `found` is the graph's own answer to the images, up to what rounding does to it."""
    off = [relative_difference(a, b) for a, b in zip(found, own, strict=True)]
    if all(one <= limit for one in off):
        return True
    rounding = _rounding(graph, images, own)
    return all(
        one <= max(limit, _TIMES_ROUNDING * most) for one, most in zip(off, rounding, strict=True)
    )


def _rounding(graph: ir.Model, images: Array, own: Outputs) -> list[float]:
    """How far each output goes when each pixel and each weight is moved by its rounding."""
    given = by_name(images, "images")
    if not any(one.dtype.kind == "f" for one in given.values()):
        return [0.0] * len(own)
    random = np.random.RandomState(1)

    def moved(values: Array) -> Array:
        if values.dtype.kind != "f":
            return values
        noise = random.standard_normal(values.shape)
        return (values * (1 + _NUDGE * noise)).astype(values.dtype)

    nudged = graph.clone()
    weights = {
        value: value.const_value
        for node in nudged.graph
        if node.op_type in _WEIGHTED
        for value in node.inputs
        if value is not None and value.is_initializer() and value.const_value is not None
    }
    for value, tensor in weights.items():
        if tensor.numpy().dtype.kind == "f":
            value.const_value = ir.tensor(moved(tensor.numpy()), name=value.name)
    tensors = {name: moved(one) for name, one in given.items()}
    batch = joined(tensors) if images.dtype.names else tensors["images"]
    found = map(relative_difference, answer(nudged, batch), own)
    return [off if np.isfinite(off) else 0.0 for off in found]
