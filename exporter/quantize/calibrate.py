"""Calibration: one pass over the data gives the range of every tensor that 8 bits may have to hold.

    mse      the range with the least mean squared error (`mse_range.py`)
    minmax   the smallest and the largest value seen

Zero is in every range. Why `mse` is the default, and not a mean over images or a percentile:
docs/decisions/0020.

Images are run one at a time and each tensor is reduced inside the graph, to its extremes and, for
`mse`, to a regular selection of its values (HISTOGRAM_VALUES of each image) that is counted in a
histogram of fixed size. So memory stays that of one inference, whatever the number of images. An
image's numbers cannot depend on its neighbours, and counts are integers: the result is the same for
every order of the data and every batch size it comes in.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from exporter.artifact import CalibrationMethod
from exporter.errors import BuildError, InputError
from exporter.graph.files import serialize
from exporter.host import usable_threads
from exporter.passes.qdq.ranges import Ranges
from exporter.passes.qdq.tensors import tensors_with_a_range
from exporter.passes.values import add_constant, constant, dims, is_op
from exporter.progress import Progress
from exporter.quantize.histogram import Histogram
from exporter.quantize.mse_range import asymmetric_range, symmetric_range
from exporter.quantize.one_at_a_time import images_for
from exporter.quantize.range_cache import read_ranges, write_ranges
from exporter.runtime.inputs import by_name

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.images.samples import Samples
    from exporter.targets import Array

RECOMMENDED: Final = (128, 512)
"""How many samples make ranges that hold on other data, from and to."""
FEWEST: Final = 8
"""With fewer samples than this the ranges are hardly an estimate."""

HISTOGRAM_VALUES: Final = 2**15
"""How many values of one tensor of one image go into its histogram, at most twice as many."""

_ALGORITHM: Final = 2
"""Part of the cache's key; raised when the same data gives other ranges."""


def calibrate(
    graph: ir.Model,
    samples: Samples,
    *,
    method: CalibrationMethod = CalibrationMethod.MSE,
    progress: Progress,
    cache: Path | None = None,
) -> Ranges:
    """The ranges of the input and of every float tensor of a float32 graph.

    Which tensors, `passes/qdq/tensors.py` says. With a folder `cache`, the result is kept there
    under the hash of graph, data and method, and read from there; one that cannot be used costs a
    note and the time to measure.

    Raises:
        InputError: no samples, samples of another shape or type, or NaN or infinity in them.
        BuildError: a weight is not finite. (An activation that is not has no range, and may stay
            float: what is needed of it is an error then.)
    """
    _check_count(samples, progress)
    kept = None if cache is None else cache / f"{_key(graph, samples, method)}.ranges.json"
    if kept is not None:
        names = {str(value.name) for value in tensors_with_a_range(graph.graph)}
        found = read_ranges(kept, names, progress)
        if found is not None:
            return found
    _check_weights(graph)
    measured = _measure(graph, samples, method, progress)
    finite = {name: tensor for name, tensor in measured.items() if tensor.not_finite is None}
    ranges = Ranges(
        method=method,
        samples=samples.count,
        data_sha256=samples.sha256,
        tensors={name: tensor.range() for name, tensor in finite.items()},
        symmetric={name: tensor.largest() for name, tensor in finite.items()},
        not_finite={
            name: tensor.not_finite
            for name, tensor in measured.items()
            if tensor.not_finite is not None
        },
    )
    if kept is not None:
        write_ranges(ranges, kept, progress)
    return ranges


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
    """Bounds and masks may be infinite; what inputs are multiplied with may not."""
    for name, value in graph.graph.initializers.items():
        array = constant(value)
        if array is None or array.dtype.kind != "f":
            continue
        is_weight = any(is_op(node, "Conv", "Gemm", "MatMul") for node in value.consumers())
        if np.isnan(array).any() or (is_weight and np.isinf(array).any()):
            raise BuildError(f"weight {name} holds NaN or infinity; check the checkpoint")


def _measure(
    graph: ir.Model, samples: Samples, method: CalibrationMethod, progress: Progress
) -> dict[str, _Measured]:
    from exporter.targets.ort.session import OrtSession, make_session, session_options

    reduced, outputs = _with_reductions(graph, histograms=method is CalibrationMethod.MSE)
    measured = {name: _Measured(method) for name in outputs}
    session = OrtSession(make_session(serialize(reduced), session_options(usable_threads())))
    source = str(graph.graph.inputs[0].name)
    with session, progress.stage("calibrate", samples.count) as advance:
        for image in images_for(graph, samples):
            found = session.run_named(by_name(image, source))
            for name, reductions in outputs.items():
                measured[name].add({kind: found[output] for kind, output in reductions.items()})
            advance(1)
    return measured


def _with_reductions(
    graph: ir.Model, *, histograms: bool
) -> tuple[ir.Model, dict[str, dict[str, str]]]:
    """A copy that outputs reductions alone; for each tensor the output of each kind.

    What a Relu yields has no minimum of its own: it is zero.
    """
    import onnx_ir as ir
    from onnx_ir.tape import Tape

    copy = graph.clone()
    body = copy.graph
    tape = Tape(body)
    flat = add_constant(body, "calibrate.flat", np.array([-1], np.int64))
    start = add_constant(body, "calibrate.start", np.array([0], np.int64))
    stop = add_constant(body, "calibrate.stop", np.array([np.iinfo(np.int64).max], np.int64))
    outputs: dict[str, dict[str, str]] = {}
    exposed: list[ir.Value] = []

    def add(operator: str, inputs: list[ir.Value], of: ir.Value, **attributes: int) -> ir.Value:
        output = ir.val(f"{of.name}.{operator}", ir.DataType.FLOAT)
        return tape.op(operator, inputs, attributes, name=output.name, output=output)

    for value in tensors_with_a_range(body):
        single = value
        if value.dtype is not ir.DataType.FLOAT:  # of which the reductions have no kernel
            single = add("Cast", [value], value, to=ir.DataType.FLOAT.value)
        found = {"maximum": add("ReduceMax", [single], value, keepdims=0)}
        if not is_op(value.producer(), "Relu"):
            found["minimum"] = add("ReduceMin", [single], value, keepdims=0)
        if histograms:
            step = add_constant(body, f"{value.name}.step", np.array([_stride(value)], np.int64))
            row = add("Reshape", [single, flat], value)
            found["values"] = add("Slice", [row, start, stop, start, step], value)
        exposed += found.values()
        outputs[str(value.name)] = {kind: str(output.name) for kind, output in found.items()}
    body.outputs.clear()
    body.outputs.extend(exposed)
    return copy, outputs


def _stride(value: ir.Value) -> int:
    """Every how many-th value of an image is counted: odd, not to meet one column alone."""
    sizes = [d for d in (dims(value) or ())[1:] if isinstance(d, int)]
    return (math.prod(sizes) // HISTOGRAM_VALUES) | 1


class _Measured:
    """What was seen of one tensor so far."""

    not_finite: int | None = None
    """The first image with NaN or infinity in it."""

    def __init__(self, method: CalibrationMethod) -> None:
        self._histogram = Histogram() if method is CalibrationMethod.MSE else None
        self._images = 0
        self._minimum = 0.0
        self._maximum = 0.0

    def add(self, found: Mapping[str, Array]) -> None:
        """The reductions of one image: maximum, minimum (else 0), values."""
        minimum, maximum = float(found.get("minimum", np.zeros(()))), float(found["maximum"])
        values = found.get("values", np.zeros(()))  # the reductions may leave out NaN
        if self.not_finite is not None or not np.isfinite([minimum, maximum, values.sum()]).all():
            self.not_finite = self._images if self.not_finite is None else self.not_finite
            return
        self._images += 1
        self._minimum = min(self._minimum, minimum)
        self._maximum = max(self._maximum, maximum)
        if self._histogram is not None:
            self._histogram.add(found["values"], max(-self._minimum, self._maximum))

    def range(self) -> tuple[float, float]:
        if self._histogram is None:
            return self._minimum, self._maximum
        return asymmetric_range(self._histogram, self._minimum, self._maximum)

    def largest(self) -> float:
        largest = max(-self._minimum, self._maximum)
        return largest if self._histogram is None else symmetric_range(self._histogram, largest)


def _key(graph: ir.Model, samples: Samples, method: CalibrationMethod) -> str:
    """Names a result by all that it depends on; the runtime's version may move the last bit."""
    import onnxruntime as ort

    parts = [
        hashlib.sha256(serialize(graph)).hexdigest(),
        samples.sha256,
        str(samples.count),
        method,
        f"algorithm {_ALGORITHM}",
        f"onnxruntime {ort.__version__}",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
