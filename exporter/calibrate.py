"""Calibration: one pass over the data gives the range of every tensor that 8 bits may have to hold.

    mean-minmax   mean over images of the per-image minimum and of the per-image maximum
    minmax        the smallest and the largest value seen

Zero is counted into every range. The mean is the better range on trained networks: one image with
an outlier in it does not coarsen all others (docs/decisions/0020).

Images are run one at a time and each one is reduced inside the graph (ReduceMin, ReduceMax), so
that only two numbers a tensor leave it: memory stays that of one inference, whatever the number of
images. An image's numbers cannot depend on its neighbours, and sums are exact integers: the result
is the same for every order of the data and every batch size it comes in.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from exporter.errors import BuildError, InputError, unknown_name
from exporter.export import serialize
from exporter.host import usable_threads
from exporter.passes.qdq_tensors import tensors_with_a_range
from exporter.passes.values import constant, dims, is_op
from exporter.progress import Progress
from exporter.ranges import Ranges, read_ranges, write_ranges

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.data import Samples
    from exporter.targets import Array

METHODS: Final = ("mean-minmax", "minmax")
RECOMMENDED: Final = (128, 512)
FEWEST: Final = 8
"""With fewer samples than this the ranges are hardly an estimate."""

_SMALLEST_EXPONENT: Final = 149  # every finite float32 is an integer times 2^-149
_FEED: Final = 16  # samples asked for at a time; the result does not depend on it


def calibrate(
    graph: ir.Model,
    samples: Samples,
    *,
    method: str = "mean-minmax",
    progress: Progress,
    cache: Path | None = None,
) -> Ranges:
    """The ranges of the input and of every float tensor of a float32 graph.

    Which tensors, `qdq_tensors.tensors_with_a_range` says. With a folder `cache`, the
    result is kept there under the hash of graph, data and method, and read from there.

    Raises:
        UsageError: an unknown method.
        InputError: no samples, samples of another shape or type, or NaN or infinity in them.
        BuildError: a weight or an activation is not finite.
    """
    if method not in METHODS:
        raise unknown_name("calibration method", method, METHODS)
    _check_count(samples, progress)
    kept = None if cache is None else cache / f"{_key(graph, samples, method)}.ranges.json"
    if kept is not None:
        found = read_ranges(kept)
        if found is not None:
            return found
    _check_weights(graph)
    tensors = _measure(graph, samples, method, progress)
    ranges = Ranges(method, samples.count, samples.sha256, tensors)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_ranges(ranges, kept)
    return ranges


def images(samples: Samples, shape: tuple[int | str | None, ...]) -> Iterator[Array]:
    """The samples one at a time, (N, ...) with N = 1, or the graph's own N of the same image.

    Raises:
        InputError: a sample has another shape or type, or is not finite.
    """
    copies = shape[0] if isinstance(shape[0], int) else 1
    index = 0
    for batch in samples.batches(_FEED):
        for image in batch:
            if not _fits(image.shape, shape[1:]):
                raise _unfit(samples, index, f"has shape {image.shape}, not {shape[1:]}")
            if image.dtype != np.float32:
                raise _unfit(samples, index, f"is of type {image.dtype}, not float32")
            if not np.isfinite(image).all():
                raise _unfit(samples, index, "holds NaN or infinity")
            yield np.repeat(image[None], copies, axis=0)
            index += 1
    if index == 0:
        raise InputError(f"{samples.source} holds no samples; give some to calibrate with")


def _fits(given: tuple[int, ...], wanted: Sequence[int | str | None]) -> bool:
    return len(given) == len(wanted) and all(
        size == want or not isinstance(want, int) for size, want in zip(given, wanted, strict=True)
    )


def _unfit(samples: Samples, index: int, what: str) -> InputError:
    return InputError(
        f"sample {index} of {samples.source} {what}; prepare the calibration data as the model's "
        "input"
    )


def _check_count(samples: Samples, progress: Progress) -> None:
    if samples.count < 1:
        raise InputError(f"{samples.source} holds no samples; give some to calibrate with")
    if samples.count < FEWEST:
        low, high = RECOMMENDED
        progress.note(
            f"calibrating on {samples.count} samples of {samples.source}: too few for ranges that "
            f"hold on other data; {low} to {high} are recommended"
        )


def _check_weights(graph: ir.Model) -> None:
    for name, value in graph.graph.initializers.items():
        array = constant(value)
        if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BuildError(f"weight {name} holds NaN or infinity; check the checkpoint")


def _measure(
    graph: ir.Model, samples: Samples, method: str, progress: Progress
) -> dict[str, tuple[float, float]]:
    from exporter.targets.ort_session import OrtSession, make_session, session_options

    reduced, outputs = _with_extremes(graph)
    shape = dims(graph.graph.inputs[0]) or ()
    ranges = {name: _Range(name, method) for name in outputs}
    session = OrtSession(make_session(serialize(reduced), session_options(usable_threads())))
    source = str(graph.graph.inputs[0].name)
    with session, progress.stage("calibrate", samples.count) as advance:
        for image in images(samples, shape):
            extremes = session.run_named({source: image})
            for name, (minimum, maximum) in outputs.items():
                low = 0.0 if minimum is None else float(extremes[minimum])
                ranges[name].add(low, float(extremes[maximum]))
            advance(1)
    return {name: found.result() for name, found in ranges.items()}


def _with_extremes(graph: ir.Model) -> tuple[ir.Model, dict[str, tuple[str | None, str]]]:
    """A copy whose outputs are extremes, and for each tensor the outputs that hold them.

    What a Relu yields has no minimum of its own: it is zero.
    """
    import onnx_ir as ir

    copy = graph.clone()
    body = copy.graph
    outputs: dict[str, tuple[str | None, str]] = {}
    exposed: list[ir.Value] = []
    for value in tensors_with_a_range(body):
        names: list[str | None] = []
        for operator in ("ReduceMin", "ReduceMax"):
            if operator == "ReduceMin" and is_op(value.producer(), "Relu"):
                names.append(None)
                continue
            node = ir.node(operator, [value], {"keepdims": 0}, name=f"{value.name}.{operator}")
            output = node.outputs[0]
            output.name, output.shape = node.name, ir.Shape(())
            output.type = ir.TensorType(ir.DataType.FLOAT)
            body.append(node)
            exposed.append(output)
            names.append(str(node.name))
        outputs[str(value.name)] = (names[0], str(names[1]))
    body.outputs.clear()
    body.outputs.extend(exposed)
    return copy, outputs


class _Range:
    """One tensor's range over the images so far, in exact arithmetic."""

    def __init__(self, tensor: str, method: str) -> None:
        self._tensor = tensor
        self._mean = method == "mean-minmax"
        self._count = 0
        self._minimum = 0
        self._maximum = 0

    def add(self, minimum: float, maximum: float) -> None:
        """The extremes of one image, both float32 values."""
        if not (math.isfinite(minimum) and math.isfinite(maximum)):
            raise BuildError(
                f"tensor {self._tensor} is not finite on calibration image {self._count}: the "
                "weights overflow float32 there, or the data is not prepared as the model expects"
            )
        low = int(math.ldexp(min(minimum, 0.0), _SMALLEST_EXPONENT))
        high = int(math.ldexp(max(maximum, 0.0), _SMALLEST_EXPONENT))
        self._count += 1
        if self._mean:
            self._minimum += low
            self._maximum += high
        else:
            self._minimum = min(self._minimum, low)
            self._maximum = max(self._maximum, high)

    def result(self) -> tuple[float, float]:
        divisor = 2**_SMALLEST_EXPONENT * (self._count if self._mean else 1)
        return self._minimum / divisor, self._maximum / divisor  # correctly rounded quotients


def _key(graph: ir.Model, samples: Samples, method: str) -> str:
    """Names a result by all that it depends on; the runtime's version may move the last bit."""
    import onnxruntime as ort

    parts = [
        hashlib.sha256(serialize(graph)).hexdigest(),
        samples.sha256,
        str(samples.count),
        method,
        f"onnxruntime {ort.__version__}",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
