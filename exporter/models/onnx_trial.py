"""An ONNX file is run before anything is built from it, on random images and without optimizations.

    as given          twice: an answer must not depend on chance
    an image alone    or beside others: nor on its neighbours in the batch
    as converted      to our opset: it must answer the same

What does not hold is told with the first node whose output shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from exporter.artifact import ModelSpec, TensorSpec
from exporter.errors import InputError
from exporter.models.difference import relative_difference
from exporter.models.onnx_checks import label
from exporter.models.output_type import why_no_scores
from exporter.runtime.errors import reason_of
from exporter.runtime.inputs import by_name, joined

LIMIT: Final = 1e-4
"""The relative difference of two answers that rounding does not explain: sums in another order
come to 1e-6."""
_BATCH: Final = 2
_RUNS: Final = 2
_RUNS_WITH_CHANCE: Final = 16
"""How often a graph is run that may draw random numbers: a rare drop shows itself seldom."""
_DRAWING: Final = (
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
)  # fmt: skip
_TRAINING: Final = ("BatchNormalization", "Dropout")
"""Operators that answer so in training mode alone."""
_FATAL: Final = 4
"""ONNX Runtime's log level for fatal errors alone: what goes wrong is in the exception."""

Array = npt.NDArray[Any]
Run = Callable[[Array], Mapping[str, Array]]


def try_out(
    given: bytes, converted: bytes, spec: ModelSpec, name: str
) -> Mapping[str, tuple[int, ...]]:
    """Runs the file as given and as converted; the shape of each output by its name.

    Raises:
        InputError: ONNX Runtime does not run it; an output is not float32 with one row for each
            image; an answer depends on chance or on other images; the conversion changed it.
    """
    images, companies = _random_images(spec)
    run = _opened(given, name)
    answer = run(images)
    for output, values in answer.items():
        _check_output(output, values, len(images), name)
    nodes = onnx.load_model_from_string(given).graph.node
    draws = any(node.op_type in _DRAWING for node in nodes)
    for _ in range(1, _RUNS_WITH_CHANCE if draws else _RUNS):
        if _any_differs(run(images), answer):
            twice = _opened(given, name, every_tensor=True)
            where = _first(nodes, twice(images), twice(images))
            raise InputError(
                f"{name} answers the same images differently each time{where}; export it in "
                "evaluation mode, after eval()"
            )
    for company in companies:
        here = {key: value[company.here] for key, value in run(company.images).items()}
        there = {key: value[company.there] for key, value in answer.items()}
        if _any_differs(here, there):
            traced = _opened(given, name, every_tensor=True)
            where = _first(nodes, traced(company.images), traced(images), company)
            raise InputError(
                f"{name}: the answer to an image depends on the other images of its batch{where}; "
                "export it in evaluation mode, after eval()"
            )
    found = _opened(converted, name)(images)
    if _any_differs(found, answer):
        most = max(relative_difference(found[key], answer[key]) for key in answer)
        before = _opened(given, name, every_tensor=True)(images)
        after = _opened(converted, name, every_tensor=True)(images)
        raise InputError(
            f"{name}: onnx's version converter changes its numbers (relative difference "
            f"{most:.2g}){_first(nodes, after, before)}; export the model with opset {spec.opset}"
        )
    return {key: value.shape for key, value in answer.items()}


@dataclass(frozen=True)
class _Company:
    """Some of the images alone or, where the batch is fixed, beside others than before."""

    images: Array
    here: slice
    """Where they are in this batch."""
    there: slice
    """Where they were in the first one."""


def _random_images(spec: ModelSpec) -> tuple[Array, list[_Company]]:
    """A seeded batch of images, and the same in other company."""
    batch = spec.input.shape[0]
    random = np.random.RandomState(0)
    count = batch if isinstance(batch, int) else _BATCH

    def draw() -> Array:
        drawn = {one.name: values_of(one) for one in spec.inputs}
        return joined(drawn) if spec.other_inputs else drawn[spec.input.name]

    def values_of(given: TensorSpec) -> Array:
        shape = (count, *given.sample)
        if given.dtype == "uint8":
            return random.randint(0, 256, shape).astype(np.uint8)
        return random.standard_normal(shape).astype(given.dtype)

    images = draw()
    first, rest, one = slice(0, 1), slice(1, None), slice(0, 1)
    if not isinstance(batch, int):
        return images, [_Company(images[first], one, first), _Company(images[rest], one, rest)]
    if batch == 1:
        return images, []
    others = draw()
    beside_others, after_another = others.copy(), images.copy()
    beside_others[first] = images[first]
    after_another[first] = others[first]
    return images, [
        _Company(beside_others, first, first),
        _Company(after_another, rest, rest),
    ]


def _opened(content: bytes, name: str, *, every_tensor: bool = False) -> Run:
    """Runs a graph: images -> its outputs, or every tensor that a node makes."""
    import onnxruntime

    if every_tensor:
        model = onnx.load_model_from_string(content)
        outputs = {output for node in model.graph.node for output in node.output if output}
        outputs -= {value.name for value in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=output) for output in sorted(outputs))
        content = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = _FATAL

    def refuse(error: Exception) -> InputError:
        reason = reason_of(error)
        return InputError(f"{name}: ONNX Runtime cannot run it: {reason}")

    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # its exceptions share no narrower base
        raise refuse(error) from error
    names = [value.name for value in session.get_outputs()]
    image = session.get_inputs()[0].name

    def run(images: Array) -> Mapping[str, Array]:
        try:
            return dict(zip(names, session.run(None, by_name(images, image)), strict=True))
        except Exception as error:
            raise refuse(error) from error

    return run


def _check_output(output: str, answer: Array, count: int, name: str) -> None:
    wrong_type = why_no_scores(str(answer.dtype))
    if wrong_type:
        raise InputError(f"{name}: the output {output!r} is {wrong_type}")
    if answer.size == 0:
        raise InputError(
            f"{name}: the output {output!r} has no values, its shape is {answer.shape} for {count} "
            "image(s); give the file the sizes that its layers were made for"
        )
    if answer.ndim < 2 or len(answer) != count:
        raise InputError(
            f"{name}: the output {output!r} has the shape {answer.shape} for {count} image(s), "
            "expected one row for each image"
        )


def _any_differs(found: Mapping[str, Array], expected: Mapping[str, Array]) -> bool:
    return any(_differ(found[name], answer) for name, answer in expected.items())


def _differ(found: Array, expected: Array) -> bool:
    return relative_difference(found, expected) > LIMIT


def _first(
    nodes: Any,
    found: Mapping[str, Array],
    expected: Mapping[str, Array],
    company: _Company | None = None,
) -> str:
    """The first node whose outputs differ, in words.

    With a company the rows of its images are compared, of tensors that have rows.
    """
    unknown: dict[str, Any] = {}  # tensors that one of the two graphs has not, with their nodes
    for node in nodes:
        for output in node.output:
            if output not in found or output not in expected:
                unknown[output] = node
                continue
            a, b = found[output], expected[output]
            if company is not None:
                if not a.ndim or len(a) != len(company.images):
                    continue
                a, b = a[company.here], b[company.there]
            if a.dtype.kind in "fiub" and _differ(a, b):
                while read := next((name for name in node.input if name in unknown), None):
                    node = unknown.pop(read)
                mode = ", in training mode" if node.op_type in _TRAINING else ""
                return f", first in {label(node)!r} ({node.op_type}{mode})"
    return ""
