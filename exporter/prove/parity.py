"""Parity: how far an engine's numbers are from eager PyTorch, and whether that is near enough.

The reference is eager PyTorch in float32, and in float64 on a few inputs: the second one tells the
error that float32 itself makes. For an ONNX file it is that file, as given, with ONNX Runtime's
optimizations off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from exporter.artifact import Model, Skipped
from exporter.errors import BuildError, InputError, reason_of
from exporter.images.samples import Samples
from exporter.progress import Progress
from exporter.prove.answers import Answers, compare_answers
from exporter.prove.certificate import Accuracy, Parity, Scope
from exporter.prove.limits import AT_LEAST, OF_ANSWERS, widened
from exporter.prove.reference_device import check_device, float32_on
from exporter.runtime.goldens import read_arrays
from exporter.targets import MachineKind

if TYPE_CHECKING:
    import torch

    from exporter.targets import Session

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

BATCH: Final = 8
"""Inputs are run in batches of this size, and the first of them one at a time as well."""
SINGLE_SAMPLES: Final = 8
GOLDEN_SAMPLES: Final = 8
EAGER_BATCH: Final = 32
FLOAT64_SAMPLES: Final = 8


@dataclass(frozen=True)
class Reference:
    """What the engines are compared with."""

    source: str
    inputs: Samples
    """Model-ready inputs, with labels where the data has them."""
    outputs: Floats
    """(N, classes) of the float32 reference; further dimensions are flattened."""
    outputs_float64: Floats | Skipped
    """(n, classes) for the first n inputs."""
    fixed_batch: int | None = None
    """The only batch size that the model takes; None: any."""

    @property
    def own_max_abs(self) -> float:
        """The largest error that the float32 reference makes against float64 (0 if not known)."""
        if isinstance(self.outputs_float64, Skipped):
            return 0.0
        count = len(self.outputs_float64)
        return float(np.abs(self.outputs[:count] - self.outputs_float64).max())

    @property
    def own_rel_l2(self) -> float | Skipped:
        """The relative error that the float32 reference makes against float64."""
        exact = self.outputs_float64
        if isinstance(exact, Skipped):
            return exact
        return relative_l2(self.outputs[: len(exact)] - exact, exact)


def make_reference(
    model: Model, inputs: Samples, progress: Progress, device: MachineKind = MachineKind.CPU
) -> Reference:
    """Runs the reference on all `inputs`, batch after batch; on `device`, in float64 on the CPU.

    Raises UsageError where that cannot be (`check_device`).
    """
    check_device(device, model)
    if model.module is None:
        return _reference_of_file(model, inputs, progress)
    import copy

    import torch

    def run(module: torch.nn.Module, dtype: torch.dtype, batch: Array) -> Floats:
        place = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
        # The batch is this run's own: a forward may change it in place.
        with torch.inference_mode():
            output: Array = module(torch.from_numpy(batch).to(place, dtype)).cpu().numpy()
        return _rows(output)

    first = inputs.take(FLOAT64_SAMPLES)
    with progress.stage("reference: eager PyTorch", inputs.count + first.count) as advance:
        outputs = []
        with float32_on(device, model.module) as module:
            for batch in inputs.batches(EAGER_BATCH):
                outputs.append(run(module, torch.float32, batch))
                advance(len(batch))
        exact: Floats | Skipped
        try:
            double = copy.deepcopy(model.module).double()
            answers = [run(double, torch.float64, batch) for batch in first.batches(EAGER_BATCH)]
            exact = np.concatenate(answers)
        except Exception as error:  # somebody else's forward may need float32
            exact = Skipped(f"the module does not run in float64 ({reason_of(error)})")
        advance(first.count)
    where = "" if device is MachineKind.CPU else " on the GPU"
    eager = f"torch {torch.__version__.partition('+')[0]} eager float32{where}"
    return Reference(
        source=eager if isinstance(exact, Skipped) else f"{eager}, float64 on {first.count} inputs",
        inputs=inputs,
        outputs=np.concatenate(outputs),
        outputs_float64=exact,
    )


def save_goldens(path: Path, reference: Reference) -> None:
    """Writes an `.npz`: the first inputs, what eager answers, and what it answers in float64."""
    first = reference.inputs.take(GOLDEN_SAMPLES)
    arrays = {
        "inputs": next(first.batches(GOLDEN_SAMPLES)),
        "outputs": reference.outputs[:GOLDEN_SAMPLES].astype(np.float32),
    }
    if not isinstance(reference.outputs_float64, Skipped):
        arrays["outputs_float64"] = reference.outputs_float64[:GOLDEN_SAMPLES]
    np.savez(path, allow_pickle=False, **arrays)


def read_goldens(path: Path, fixed_batch: int | None) -> Reference:
    """The golden inputs and what the reference answered to them.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        arrays = read_arrays(path)
        inputs, outputs = arrays["inputs"], arrays["outputs"]
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}); export the model again") from None
    exact = arrays.get("outputs_float64")
    return Reference(
        source=path.name,
        inputs=Samples.of(path.name, inputs),
        outputs=_rows(outputs),
        outputs_float64=Skipped("the build has no float64 goldens")
        if exact is None
        else _rows(exact),
        fixed_batch=fixed_batch,
    )


def _reference_of_file(model: Model, inputs: Samples, progress: Progress) -> Reference:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.given, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    declared = model.spec.input.shape[0]
    fixed = declared if isinstance(declared, int) else None
    with progress.stage("reference: the given file, optimizations off", inputs.count) as advance:
        outputs = run_all(lambda batch: session.run(None, {name: batch})[0], inputs, fixed, advance)
    return Reference(
        source=f"the given ONNX file, onnxruntime {ort.__version__} with optimizations off",
        inputs=inputs,
        outputs=outputs,
        outputs_float64=Skipped("an ONNX file has no float64 reference: its reference is float32"),
        fixed_batch=fixed,
    )


def run_all(
    run: Callable[[Array], Array],
    inputs: Samples,
    fixed_batch: int | None,
    advance: Callable[[int], None] = lambda _count: None,
) -> Floats:
    """(N, classes): every input through `run`, in batches of BATCH or of the one size it takes.

    What is missing from the last batch of a fixed size is filled up with its last input.
    """
    outputs = []
    for batch in inputs.batches(fixed_batch or BATCH):
        missing = (fixed_batch or 0) - len(batch)
        filled = np.concatenate([batch, *[batch[-1:]] * missing]) if missing > 0 else batch
        outputs.append(_rows(run(filled))[: len(batch)])
        advance(len(batch))
    return np.concatenate(outputs)


def check_parity(
    session: Session,
    reference: Reference,
    limits: Mapping[str, float],
    *,
    scope: Scope,
    progress: Progress,
    title: str,
) -> tuple[Parity, Floats]:
    """The parity certificate of a loaded engine, and its outputs (N, classes).

    Where the batch is dynamic, the first inputs are run one at a time as well, since that is what
    is timed and served: those answers must keep every limit, too.
    """
    inputs = reference.inputs
    alone = inputs.take(0 if reference.fixed_batch else SINGLE_SAMPLES)
    with progress.stage(f"parity of {title}", inputs.count + alone.count) as advance:
        outputs = run_all(session.run, inputs, reference.fixed_batch, advance)
        singly: Floats | None = None
        if alone.count:
            singly = run_all(session.run, alone, 1, advance)
    return compare(outputs, reference, limits, scope=scope, singly=singly), outputs


@np.errstate(invalid="ignore", over="ignore")  # answers that are not finite are told in words
def compare(
    outputs: Floats,
    reference: Reference,
    limits: Mapping[str, float],
    *,
    scope: Scope = Scope.ENGINE,
    singly: Floats | None = None,
) -> Parity:
    """The figures of outputs (N, classes) against the reference, and which limits they miss.

    `singly` are the answers to the first inputs when each is a batch of its own.
    """
    expected = reference.outputs
    if outputs.shape != expected.shape:
        raise BuildError(
            f"the engine answers with shape {outputs.shape}, the reference with {expected.shape}"
        )
    figures = _figures(outputs, reference)
    own = reference.own_rel_l2
    allowed = widened(limits, 0.0 if isinstance(own, Skipped) else own)
    applied = {key: limit for key, limit in allowed.items() if key in figures.judged}
    applied.pop("top1_agreement" if figures.answers.labels_decide(applied) else "top1_drop", None)
    failures = [
        *_not_finite("the reference's", expected),
        *_not_finite("the", outputs),
        *_missed(figures, applied),
    ]
    between_batches = 0.0
    if singly is not None:
        alone = _missed(_figures(singly, reference), applied)
        failures += [f"at batch 1: {text}" for text in (*_not_finite("the", singly), *alone)]
        between_batches = _largest(singly - outputs[: len(singly)])
        most = allowed["batch_max_abs"] * _largest(expected)
        applied["batch_max_abs"] = most
        if not between_batches <= most:
            failures.append(
                f"batch_max_abs {between_batches:.3g} > limit {most:.3g} (the same inputs one "
                "at a time and in batches)"
            )
    return Parity(
        scope=scope,
        reference=reference.source,
        samples=len(outputs),
        max_abs=figures.max_abs,
        rel_l2=figures.judged["rel_l2"],
        cosine=figures.cosine,
        sqnr_db=figures.judged["sqnr_db"],
        top1_agreement=figures.answers.agreement,
        flips=figures.answers.flips,
        limits=applied,
        passed=not failures,
        failures=tuple(failures),
        rel_l2_float64=own if isinstance(own, Skipped) else figures.judged["rel_l2_float64"],
        reference_rel_l2_float64=own,
        near_ties=figures.answers.near_ties,
        batch_sizes=(*([1] if singly is not None else []), reference.fixed_batch or BATCH),
        batch_max_abs=between_batches,
        agreement_at_most=figures.answers.agreement_at_most,
        drop_at_least=figures.answers.drop_at_least,
        flipped=figures.answers.flipped,
        median_margin=figures.answers.median_margin,
    )


@dataclass(frozen=True)
class _Figures:
    """How far some answers are from the reference's to the same inputs."""

    judged: Mapping[str, float]
    """By the limit that each is held against."""
    max_abs: float
    cosine: float
    answers: Answers
    worst: str
    """The input with the largest error of its own, in words."""


def _figures(outputs: Floats, reference: Reference) -> _Figures:
    """Of the answers to the first inputs; what is not finite counts as infinitely far away."""
    expected = reference.outputs[: len(outputs)]
    finite = np.where(np.isfinite(outputs), outputs, np.inf)
    error = finite - expected
    labels = reference.inputs.labels
    answers = compare_answers(
        outputs,
        expected,
        near_tie=2 * reference.own_max_abs,
        labels=None if labels is None else labels[: len(outputs)],
    )
    judged: dict[str, float] = {
        "rel_l2": relative_l2(error, expected),
        "sqnr_db": sqnr_db(error, expected),
        "top1_agreement": answers.agreement_at_most,
    }
    if not isinstance(answers.drop_at_least, Skipped):
        judged["top1_drop"] = answers.drop_at_least
    exact = reference.outputs_float64
    if not isinstance(exact, Skipped):
        exact = exact[: len(outputs)]
        judged["rel_l2_float64"] = relative_l2(finite[: len(exact)] - exact, exact)
    own = np.linalg.norm(error, axis=1) / np.maximum(np.linalg.norm(expected, axis=1), 1e-30)
    index = int(np.argmax(own))
    return _Figures(
        judged,
        max_abs=_largest(error),
        cosine=_cosine(outputs, expected) if np.isfinite(outputs).all() else 0.0,
        answers=answers,
        worst=f"worst input: {index} of {len(outputs)}, relative error {own[index]:.3g}",
    )


def _not_finite(whose: str, outputs: Floats) -> list[str]:
    bad = np.flatnonzero(~np.isfinite(outputs).all(axis=1))
    if not len(bad):
        return []
    return [
        f"{whose} answers to {len(bad)} of {len(outputs)} inputs hold NaN or infinity "
        f"(first: input {bad[0]})"
    ]


def _missed(figures: _Figures, limits: Mapping[str, float]) -> list[str]:
    return [
        f"{key} {figures.judged[key]:.3g} {'<' if key in AT_LEAST else '>'} limit {limit:.3g} "
        f"({figures.answers.in_words if key in OF_ANSWERS else figures.worst})"
        for key, limit in limits.items()
        if _misses(key, figures.judged[key], limit)
    ]


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def check_accuracy(outputs: Floats, reference: Reference) -> Accuracy | None:
    """Top-1 against labels, of the engine and of the reference; None where there are no labels."""
    labels = reference.inputs.labels
    if labels is None:
        return None
    answers = outputs.argmax(axis=1)
    expected = reference.outputs.argmax(axis=1)
    return Accuracy(
        dataset=reference.inputs.source,
        samples=len(answers),
        top1=float((answers == labels).mean()),
        top1_reference=float((expected == labels).mean()),
        flips=int((answers != expected).sum()),
    )


def relative_l2(error: Array, reference: Array) -> float:
    """||error|| / ||reference||, over everything."""
    norm, off = float(np.linalg.norm(reference)), float(np.linalg.norm(error))
    if not norm:
        return float("inf") if off else 0.0
    return off / norm


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


def _rows(output: Array) -> Floats:
    return output.reshape(len(output), -1).astype(np.float64)
