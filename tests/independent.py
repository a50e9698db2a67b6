"""Judges a build by numbers that are not its own: ONNX's reference evaluator's, or eager PyTorch's.

Whatever a network is, one of two holds: every engine that passed answers the build's goldens as the
network does, or there is one line that says why there is none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from exporter.artifact import Precision
from exporter.commands.build import Build
from exporter.runtime.goldens import goldens_in
from exporter.runtime.inputs import by_name
from exporter.targets import get_target
from tests.reference_operators import OPERATORS

Array = npt.NDArray[Any]
Run = Callable[[Array], Array]

LIMITS: Final = {Precision.FP32: 1e-4, Precision.FP16: 2e-2, Precision.INT8: 0.105}
"""The relative error past which a certificate that passed is wrong. INT8's own limit is 20 dB, a
tenth, over all inputs that were compared; the builds compare as many as there are goldens."""
TIMES_ROUNDING: Final = 30
"""How many times its own rounding an answer may be off: in some networks large numbers cancel."""
RIGHT: Final = "right"


class Answers(NamedTuple):
    exact: Array
    """In float64."""
    rounding: float
    """How far float32 is from that, relatively."""


def judged(build: Build, answers: Callable[[Array], Answers]) -> dict[str, str]:
    """Engine id -> `right`, or the line that says why it is none.

    `answers` are those of the network, to (N, ...) of its images, or records of several inputs.
    """
    goldens = goldens_in(build.path / "golden.npz")
    images = goldens.inputs
    exact, rounding = answers(images)
    slack = TIMES_ROUNDING * rounding
    assert off(goldens.outputs, exact) <= max(1e-4, slack), "the goldens are wrong"
    fixed = build.manifest.model.input.shape[0]
    found = {failed.id: failed.reason for failed in build.manifest.failed_engines}
    for engine in build.engines:
        if engine.failures:
            found[engine.id] = engine.failures[0]
            continue
        session = get_target(engine.target).open(build.path / engine.path, 1)
        error = off(in_batches(session.run, images, fixed), exact)
        limit = max(LIMITS[engine.precision], slack)
        assert error <= limit, f"a wrong certificate: {engine.id} is off by {error:.2g}"
        found[engine.id] = RIGHT
    for failure in build.failures:
        check_line(failure)
    return found


def check_line(message: str) -> None:
    """A message is one line that blames what was given, not us."""
    assert "\n" not in message, message
    for word in ("Traceback", "fault of the exporter", "report:"):
        assert word not in message, message


def off(found: Array, expected: Array) -> float:
    """||found - expected|| / ||expected||; infinite where one of them is not finite."""
    found, expected = (a.reshape(len(a), -1).astype(np.float64) for a in (found, expected))
    with np.errstate(invalid="ignore"):  # infinity less infinity: not finite, as is said below
        norm, error = float(np.linalg.norm(expected)), float(np.linalg.norm(found - expected))
    if not np.isfinite(error):
        return float("inf")
    return error / norm if norm else float(error > 0)


def in_batches(run: Run, images: Array, fixed: int | str) -> Array:
    """The answers to the images in batches of the size that a network takes; a name: any size."""
    size = fixed if isinstance(fixed, int) else len(images)
    found = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        filled = np.concatenate([batch, *[batch[-1:]] * (size - len(batch))])
        found.append(run(filled)[: len(batch)])
    return np.concatenate(found)


def of_file(model: onnx.ModelProto) -> Callable[[Array], Answers]:
    """What ONNX's reference evaluator answers."""
    size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    fixed = size if size > 0 else "N"

    def answers(images: Array) -> Answers:
        single = in_batches(_evaluator(model), images, fixed)
        if images.dtype == np.float32:
            images = images.astype(np.float64)
        exact = in_batches(_evaluator(_in_float64(model)), images, fixed)
        return Answers(exact, off(single, exact))

    return answers


def of_module(module: torch.nn.Module) -> Callable[[Array], Answers]:
    """What eager PyTorch answers."""
    single, double = (copy.deepcopy(module).eval().to(kind) for kind in (torch.float, torch.double))

    def run(network: torch.nn.Module, images: Array, kind: torch.dtype) -> Array:
        with torch.inference_mode():
            given = (
                torch.from_numpy(one).to(kind, copy=True) for one in by_name(images, "").values()
            )
            found: Array = network(*given).numpy()
        return found

    def answers(images: Array) -> Answers:
        exact = run(double, images, torch.double)
        return Answers(exact, off(run(single, images, torch.float), exact))

    return answers


def _evaluator(model: onnx.ModelProto) -> Run:
    evaluator = ReferenceEvaluator(model, new_ops=list(OPERATORS))
    name = evaluator.input_names[0]

    def run(images: Array) -> Array:
        with np.errstate(all="ignore"):
            answers: Any = evaluator.run(None, {name: images})
        found: Array = answers[0]
        return found

    return run


def _in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    wide: Mapping[int, int] = {TensorProto.FLOAT: TensorProto.DOUBLE}
    copied: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    graph = copied.graph
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type
        kind.elem_type = wide.get(kind.elem_type, kind.elem_type)
    values = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *values):
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to":
                attribute.i = wide.get(attribute.i, attribute.i)
    return copied
