"""Parity: how far an engine's numbers are from eager PyTorch, and whether that is near enough.

The reference is eager PyTorch in float32, and in float64 on a few inputs: the second one tells the
error that float32 itself makes. For an ONNX file it is that file, as given, with ONNX Runtime's
optimizations off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from exporter.artifact import Accuracy, Model, Parity, Precision, Skipped
from exporter.errors import BuildError
from exporter.progress import Progress
from exporter.prove.limits import AT_LEAST, LIMITS

if TYPE_CHECKING:
    from exporter.targets import Session

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

BATCH: Final = 8
"""Inputs are run in batches of this size, and the first of them one at a time as well."""
GOLDEN_SAMPLES: Final = 8
EAGER_BATCH: Final = 32
FLOAT64_SAMPLES: Final = 8


@dataclass(frozen=True)
class Reference:
    """What the engines are compared with."""

    source: str
    inputs: Array
    """(N, ...) model-ready inputs."""
    outputs: Floats
    """(N, classes) of the float32 reference; further dimensions are flattened."""
    outputs_float64: Floats | Skipped
    """(n, classes) for the first n inputs."""
    labels: npt.NDArray[np.int64] | None = None

    @property
    def own_max_abs(self) -> float:
        """The largest error that the float32 reference makes against float64 (0 if not known)."""
        if isinstance(self.outputs_float64, Skipped):
            return 0.0
        count = len(self.outputs_float64)
        return float(np.abs(self.outputs[:count] - self.outputs_float64).max())


def make_reference(
    model: Model, inputs: Array, labels: npt.NDArray[np.int64] | None, progress: Progress
) -> Reference:
    """Runs the reference on `inputs`, (N, ...) as the model takes them."""
    if model.module is None:
        return _reference_of_file(model, inputs, labels, progress)
    import copy

    import torch

    def run(module: torch.nn.Module, dtype: torch.dtype, batch: Array) -> Floats:
        with torch.inference_mode():
            output: Array = module(torch.from_numpy(batch).to(dtype)).numpy()
        return _rows(output)

    exact_inputs = inputs[:FLOAT64_SAMPLES]
    with progress.stage("reference: eager PyTorch", len(inputs) + len(exact_inputs)) as advance:
        outputs = []
        for batch in _batches(inputs, EAGER_BATCH):
            outputs.append(run(model.module, torch.float32, batch))
            advance(len(batch))
        double = copy.deepcopy(model.module).double()
        exact = []
        for batch in _batches(exact_inputs, EAGER_BATCH):
            exact.append(run(double, torch.float64, batch))
            advance(len(batch))
    return Reference(
        source=f"torch {torch.__version__.partition('+')[0]} eager float32, "
        f"float64 on {len(exact_inputs)} inputs",
        inputs=inputs,
        outputs=np.concatenate(outputs),
        outputs_float64=np.concatenate(exact),
        labels=labels,
    )


def save_goldens(path: Path, reference: Reference) -> None:
    """Writes an `.npz`: the first inputs, what eager answers, and what it answers in float64."""
    arrays = {
        "inputs": reference.inputs[:GOLDEN_SAMPLES],
        "outputs": reference.outputs[:GOLDEN_SAMPLES].astype(np.float32),
    }
    if not isinstance(reference.outputs_float64, Skipped):
        arrays["outputs_float64"] = reference.outputs_float64[:GOLDEN_SAMPLES]
    np.savez(path, allow_pickle=False, **arrays)


def _reference_of_file(
    model: Model, inputs: Array, labels: npt.NDArray[np.int64] | None, progress: Progress
) -> Reference:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.given, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    size = batch_size(model)
    outputs = []
    with progress.stage("reference: the given file, optimizations off", len(inputs)) as advance:
        for batch in _batches(inputs, size):
            outputs.append(_rows(session.run(None, {name: batch})[0]))
            advance(len(batch))
    return Reference(
        source=f"the given ONNX file, onnxruntime {ort.__version__} with optimizations off",
        inputs=inputs,
        outputs=np.concatenate(outputs),
        outputs_float64=Skipped("an ONNX file has no float64 reference: its reference is float32"),
        labels=labels,
    )


def batch_size(model: Model) -> int:
    """The batch that inputs are run in: the model's own where it is static, else BATCH."""
    declared = model.spec.input.shape[0]
    return declared if isinstance(declared, int) else BATCH


def run_all(session: Session, inputs: Array, size: int) -> Floats:
    """(N, classes): every input through the session, `size` at a time."""
    return np.concatenate([_rows(session.run(batch)) for batch in _batches(inputs, size)])


def check_parity(
    session: Session,
    reference: Reference,
    precision: Precision,
    *,
    trained: bool,
    scope: str,
    size: int,
    dynamic: bool,
    progress: Progress,
    title: str,
) -> tuple[Parity, Floats]:
    """The parity certificate of a loaded engine, and its outputs (N, classes).

    `size` is the batch to run in; with a `dynamic` batch the first inputs are also run singly.
    """
    single = min(FLOAT64_SAMPLES, len(reference.inputs)) if dynamic else 0
    outputs = []
    with progress.stage(f"parity of {title}", len(reference.inputs) + single) as advance:
        for batch in _batches(reference.inputs, size):
            outputs.append(_rows(session.run(batch)))
            advance(len(batch))
        ones = []
        for batch in _batches(reference.inputs[:single], 1):
            ones.append(_rows(session.run(batch)))
            advance(1)
    result = np.concatenate(outputs)
    batch_max_abs = float(np.abs(np.concatenate(ones) - result[:single]).max()) if single else 0.0
    certificate = compare(
        result,
        reference,
        LIMITS[precision, trained],
        scope=scope,
        batch_sizes=(1, size) if single else (size,),
        batch_max_abs=batch_max_abs,
    )
    return certificate, result


def compare(
    outputs: Floats,
    reference: Reference,
    limits: Mapping[str, float],
    *,
    scope: str,
    batch_sizes: tuple[int, ...],
    batch_max_abs: float,
) -> Parity:
    """The figures of outputs (N, classes) against the reference, and which limits they miss."""
    expected = reference.outputs
    if outputs.shape != expected.shape:
        raise BuildError(
            f"the engine answers with shape {outputs.shape}, the reference with {expected.shape}"
        )
    finite = np.isfinite(outputs).all(axis=1)
    answers = np.where(np.isfinite(outputs), outputs, np.inf)
    error = answers - expected
    own_error = reference.own_max_abs
    margins = _top1_margin(expected)
    near_tie = margins <= 2 * own_error
    flipped = (outputs.argmax(axis=1) != expected.argmax(axis=1)) & ~near_tie
    judged = max(1, int((~near_tie).sum()))
    figures: dict[str, float] = {
        "max_abs": float(np.abs(error).max()),
        "rel_l2": relative_l2(error, expected),
        "cosine": _cosine(outputs, expected) if finite.all() else 0.0,
        "sqnr_db": sqnr_db(error, expected),
        "top1_agreement": 1.0 - float(flipped.sum()) / judged,
    }
    exact = reference.outputs_float64
    float64_error: float | Skipped
    own: float | Skipped
    if isinstance(exact, Skipped):
        float64_error = own = exact
    else:
        float64_error = relative_l2(answers[: len(exact)] - exact, exact)
        own = relative_l2(expected[: len(exact)] - exact, exact)
        figures["rel_l2_float64"] = float64_error
    applied = {key: value for key, value in limits.items() if key in figures}
    per_input = np.linalg.norm(error, axis=1) / np.maximum(np.linalg.norm(expected, axis=1), 1e-30)
    worst = int(np.argmax(per_input))
    failures = tuple(
        f"{key} {figures[key]:.3g} {'<' if key in AT_LEAST else '>'} limit {limit:g} "
        f"(worst input: {worst} of {len(outputs)}, relative error {per_input[worst]:.3g})"
        for key, limit in applied.items()
        if _misses(key, figures[key], limit)
    )
    return Parity(
        scope=scope,
        reference=reference.source,
        samples=len(outputs),
        max_abs=figures["max_abs"],
        rel_l2=figures["rel_l2"],
        cosine=figures["cosine"],
        sqnr_db=figures["sqnr_db"],
        top1_agreement=figures["top1_agreement"],
        flips=int(flipped.sum()),
        limits=dict(applied),
        passed=not failures,
        failures=failures,
        rel_l2_float64=float64_error,
        reference_rel_l2_float64=own,
        near_ties=int(near_tie.sum()),
        batch_sizes=batch_sizes,
        batch_max_abs=batch_max_abs,
    )


def check_accuracy(outputs: Floats, reference: Reference, dataset: str) -> Accuracy | None:
    """Top-1 against labels, of the engine and of the reference; None where there are no labels."""
    if reference.labels is None:
        return None
    answers = outputs.argmax(axis=1)
    expected = reference.outputs.argmax(axis=1)
    return Accuracy(
        dataset=dataset,
        samples=len(answers),
        top1=float((answers == reference.labels).mean()),
        top1_reference=float((expected == reference.labels).mean()),
        flips=int((answers != expected).sum()),
    )


def relative_l2(error: Array, reference: Array) -> float:
    """||error|| / ||reference||, over everything."""
    norm = float(np.linalg.norm(reference))
    return float(np.linalg.norm(error)) / norm if norm else float("inf")


def sqnr_db(error: Array, reference: Array) -> float:
    """20 log10(||reference|| / ||error||); 300 dB stands for no error at all."""
    ratio = relative_l2(error, reference)
    return 300.0 if ratio < 1e-15 else -20.0 * float(np.log10(ratio))


def _misses(key: str, figure: float, limit: float) -> bool:
    # Written so that a figure that is not a number misses its limit.
    return not figure >= limit if key in AT_LEAST else not figure <= limit


def _cosine(outputs: Floats, expected: Floats) -> float:
    norms = float(np.linalg.norm(outputs) * np.linalg.norm(expected))
    return float((outputs * expected).sum()) / (norms or 1.0)


def _top1_margin(outputs: Floats) -> Floats:
    if outputs.shape[1] < 2:
        return np.full(len(outputs), np.inf)
    best = np.partition(outputs, -2, axis=1)
    margins: Floats = best[:, -1] - best[:, -2]
    return margins


def _rows(output: Array) -> Floats:
    return output.reshape(len(output), -1).astype(np.float64)


def _batches(inputs: Array, size: int) -> list[Array]:
    return [inputs[start : start + size] for start in range(0, len(inputs), size)]
