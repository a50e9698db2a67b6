"""Parity: how far an engine's numbers are from the reference, and whether that is near enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from exporter.artifact import Skipped
from exporter.errors import BuildError
from exporter.progress import Progress
from exporter.prove.answers import Answers, compare_answers
from exporter.prove.certificate import Accuracy, Parity, Scope
from exporter.prove.distance import Array, Floats, cosine, relative_l2, sqnr_db
from exporter.prove.limits import AT_LEAST, OF_ANSWERS, widened
from exporter.prove.outputs import combined
from exporter.prove.reference import BATCH, Reference, run_all
from exporter.runtime.inputs import by_name
from exporter.runtime.outputs import side_by_side

if TYPE_CHECKING:
    from exporter.targets import Session

SINGLE_SAMPLES: Final = 8
_NO_CLASSES: Final = Skipped("it has no scores of classes")


def check_parity(
    session: Session,
    reference: Reference,
    limits: Mapping[str, float],
    *,
    scope: Scope,
    progress: Progress,
    title: str,
) -> tuple[Parity, Floats]:
    """The parity certificate of a loaded engine, and its outputs (N, values).

    Where the batch is dynamic, the first inputs are run one at a time as well, since that is what
    is timed and served: those answers must keep every limit, too.
    """
    inputs = reference.inputs
    alone = inputs.take(0 if reference.fixed_batch else SINGLE_SAMPLES)
    with progress.stage(f"parity of {title}", inputs.count + alone.count) as advance:
        run = rows_from(session, reference)
        outputs = run_all(run, inputs, reference.fixed_batch, advance)
        singly: Floats | None = None
        if alone.count:
            singly = run_all(run, alone, 1, advance)
    return compare(outputs, reference, limits, scope=scope, singly=singly), outputs


def rows_from(session: Session, reference: Reference) -> Callable[[Array], Array]:
    """Runs an engine: a batch -> all that it answers, a row an input."""
    if not reference.parts:
        return session.run

    def run(batch: Array) -> Array:
        found = session.run_named(by_name(batch, reference.input))
        missing = [part.name for part in reference.parts if part.name not in found]
        if missing:
            raise BuildError(f"the engine has no output {missing[0]!r}, it has {', '.join(found)}")
        return side_by_side([found[part.name] for part in reference.parts])

    return run


@np.errstate(invalid="ignore", over="ignore")  # answers that are not finite are told in words
def compare(
    outputs: Floats,
    reference: Reference,
    limits: Mapping[str, float],
    *,
    scope: Scope = Scope.ENGINE,
    singly: Floats | None = None,
) -> Parity:
    """The figures of outputs (N, values) against the reference, and which limits they miss.

    `singly` are the answers to the first inputs when each is a batch of its own.
    """
    if outputs.shape != reference.outputs.shape:
        raise BuildError(
            f"the engine answers with shape {outputs.shape}, the reference with "
            f"{reference.outputs.shape}"
        )
    found = {
        name: _compare_output(
            outputs[:, place],
            own,
            limits,
            scope=scope,
            singly=None if singly is None else singly[:, place],
        )
        for name, place, own in reference.each()
    }
    if not reference.parts:
        return found[""]
    scores = reference.scores
    return combined(found, None if scores is None else reference.parts[scores].name)


def _compare_output(
    outputs: Floats,
    reference: Reference,
    limits: Mapping[str, float],
    *,
    scope: Scope,
    singly: Floats | None,
) -> Parity:
    """The figures of one output."""
    expected = reference.outputs
    figures = _figures(outputs, reference)
    own = reference.own_rel_l2
    allowed = widened(limits, 0.0 if isinstance(own, Skipped) else own)
    applied = {key: limit for key, limit in allowed.items() if key in figures.judged}
    answers = figures.answers
    if answers is not None:
        applied.pop("top1_agreement" if answers.labels_decide(applied) else "top1_drop", None)
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
        top1_agreement=_NO_CLASSES if answers is None else answers.agreement,
        flips=0 if answers is None else answers.flips,
        limits=applied,
        passed=not failures,
        failures=tuple(failures),
        rel_l2_float64=own if isinstance(own, Skipped) else figures.judged["rel_l2_float64"],
        reference_rel_l2_float64=own,
        near_ties=0 if answers is None else answers.near_ties,
        batch_sizes=(*([1] if singly is not None else []), reference.fixed_batch or BATCH),
        batch_max_abs=between_batches,
        agreement_at_most=_NO_CLASSES if answers is None else answers.agreement_at_most,
        drop_at_least=_NO_CLASSES if answers is None else answers.drop_at_least,
        flipped=() if answers is None else answers.flipped,
        median_margin=_NO_CLASSES if answers is None else answers.median_margin,
    )


@dataclass(frozen=True)
class _Figures:
    """How far some answers are from the reference's to the same inputs."""

    judged: Mapping[str, float]
    """By the limit that each is held against."""
    max_abs: float
    cosine: float
    answers: Answers | None
    """None: they are no scores of classes."""
    worst: str
    """The input with the largest error of its own, in words."""


def _figures(outputs: Floats, reference: Reference) -> _Figures:
    """Of the answers to the first inputs; what is not finite counts as infinitely far away."""
    expected = reference.outputs[: len(outputs)]
    finite = np.where(np.isfinite(outputs), outputs, np.inf)
    error = finite - expected
    judged: dict[str, float] = {
        "rel_l2": relative_l2(error, expected),
        "sqnr_db": sqnr_db(error, expected),
    }
    answers = None
    if reference.scores is not None:
        labels = reference.inputs.labels
        answers = compare_answers(
            outputs,
            expected,
            near_tie=2 * reference.own_max_abs,
            labels=None if labels is None else labels[: len(outputs)],
        )
        judged["top1_agreement"] = answers.agreement_at_most
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
        cosine=cosine(outputs, expected) if np.isfinite(outputs).all() else 0.0,
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
    answers = figures.answers
    return [
        f"{key} {figures.judged[key]:.3g} {'<' if key in AT_LEAST else '>'} limit {limit:.3g} "
        f"({answers.in_words if answers and key in OF_ANSWERS else figures.worst})"
        for key, limit in limits.items()
        if _misses(key, figures.judged[key], limit)
    ]


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def check_accuracy(outputs: Floats, reference: Reference) -> Accuracy | None:
    """Top-1 against labels, of the engine and of the reference.

    None where the inputs have no labels, or the network no scores of classes.
    """
    labels = reference.inputs.labels
    if labels is None or reference.scores is None:
        return None
    _, place, scores = list(reference.each())[reference.scores]
    answers = outputs[:, place].argmax(axis=1)
    expected = scores.outputs.argmax(axis=1)
    return Accuracy(
        dataset=reference.inputs.source,
        samples=len(answers),
        top1=float((answers == labels).mean()),
        top1_reference=float((expected == labels).mean()),
        flips=int((answers != expected).sum()),
    )


def _misses(key: str, figure: float, limit: float) -> bool:
    # Written so that a figure that is not a number misses its limit.
    return not figure >= limit if key in AT_LEAST else not figure <= limit
