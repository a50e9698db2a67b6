"""`exporter evaluate`: how right are engines on many pictures, and how often do they differ?

Everything is counted in whole numbers that add up exactly, so the result is the same however the
work was shared out.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact import Skipped
from exporter.builds.codec import json_text
from exporter.builds.dataset_request import EvaluateRequest
from exporter.commands.dataset import answered, pictures_of
from exporter.commands.gated_engines import Subject, opened_subject
from exporter.errors import InputError, UsageError
from exporter.images.class_labels import check_order, match_labels
from exporter.images.preprocess import prepare
from exporter.images.samples import picture_contract
from exporter.images.sources.source import Encoded, Source, Unread
from exporter.progress import Progress
from exporter.prove.gate_record import UNLABELLED
from exporter.prove.tally import TOP, EngineTally, Tally, tally
from exporter.runtime.errors import ServingError
from exporter.runtime.pictures import opened
from exporter.targets import MachineKind, device_of

if TYPE_CHECKING:
    from rich.console import Console

    from exporter.prove.distance import Array

NO_REFERENCE = Skipped("the reference was not asked")
FEW_CLASSES = Skipped(f"the model has no more than {TOP} classes")


@dataclass(frozen=True)
class EvaluatedEngine:
    """What one engine answered."""

    id: str
    images: int
    top1: float | Skipped
    """The share of the labelled images that is answered right."""
    top5: float | Skipped
    """And of which the label is among the five best."""
    agreement: float | Skipped
    """The share of the judged images that get the reference's class."""
    flips: int | Skipped
    judged: int | Skipped
    near_ties: int | Skipped
    lost: int | Skipped
    """Right answers of the reference that this one gets wrong."""
    gained: int | Skipped
    unanswered: int
    """Answers that are not finite."""


@dataclass(frozen=True)
class Evaluation:
    """What `exporter evaluate` found; the same for the same pictures, wherever it was computed."""

    model: str
    data: str
    images: int
    labelled: int
    reference: str | Skipped
    top1_reference: float | Skipped
    top5_reference: float | Skipped
    engines: tuple[EvaluatedEngine, ...]
    not_here: tuple[tuple[str, str], ...]
    """(engine, reason) of each that was not asked."""
    unreadable: tuple[str, ...]
    """Every picture that could not be decoded, and why."""
    notes: tuple[str, ...]
    failures: tuple[str, ...]
    """Each reason for which the command ends with exit code 1."""

    def to_json(self) -> str:
        """All of it, for programs."""
        return json_text(self)


@dataclass(frozen=True)
class EvaluateJob:
    """Asks engines of a build or a bundle; each worker loads its own, exactly these."""

    build: Path
    engines: tuple[str, ...]
    threads: int
    with_reference: bool
    classes: Mapping[str, int] | None
    """The number of each label; None: the pictures have none."""
    reference: str | None = None
    """The one that every machine must have, in words; None: its own."""
    on_gpu: bool = False

    @contextmanager
    def opened(self, workers: int) -> Iterator[Callable[[tuple[Encoded, ...]], Tally]]:
        """The engines, the reference proved.

        Raises:
            UsageError: one of them does not run here, or the reference is another: a sum with what
                other machines answer would be of neither.
        """
        with opened_subject(self.build, self.engines, self.threads, workers) as subject:
            self._check(subject)
            engines = {name: subject.engines[name] for name in self.engines}
            asked = replace(subject, engines=engines)
            yield lambda batch: self._tally(asked, batch)

    def _check(self, subject: Subject) -> None:
        missing = [
            f"{name} ({subject.broken.get(name) or subject.not_here.get(name, 'it is not there')})"
            for name in self.engines
            if name not in subject.engines
        ]
        if self.reference not in (None, subject.reference):
            missing.append(f"the reference, {self.reference} (here it is {subject.reference})")
        if missing:
            raise UsageError(
                f"what is asked elsewhere cannot be asked here: {', '.join(missing)}; "
                "give an --engine that every machine runs"
            )

    def _tally(self, subject: Subject, batch: tuple[Encoded, ...]) -> Tally:
        spec = subject.model
        contract = picture_contract(spec, self.build)
        inputs: list[Array] = []
        labels: list[int] = []
        unreadable = []
        for one in batch:
            try:
                if isinstance(one.content, Unread):
                    unreadable.append(f"{one.name} {one.content.reason}")
                    continue
                with opened(BytesIO(one.content)) as image:
                    inputs.append(prepare(image, contract, spec))
            except ServingError as error:
                unreadable.append(f"{one.name} {error}")
                continue
            if self.classes is not None:
                labels.append(self._number(one))
        if not inputs:
            nothing = {name: EngineTally() for name in subject.engines}
            return Tally(nothing, unreadable=tuple(unreadable))
        found = tally(
            np.stack(inputs),
            None if self.classes is None else np.array(labels, np.int64),
            subject.engines,
            subject.answers_of_reference if self.with_reference else None,
            subject.near_tie,
        )
        return Tally(
            found.engines, found.images, found.labelled, found.reference, found.answers,
            tuple(unreadable),
        )  # fmt: skip

    def _number(self, one: Encoded) -> int:
        assert self.classes is not None
        if one.label is None or one.label not in self.classes:
            raise InputError(
                f"{one.name}: its label {one.label!r} is neither the name nor the number of one of "
                f"the model's classes"
            )
        return self.classes[one.label]


def evaluate(request: EvaluateRequest, progress: Progress) -> Evaluation:
    """Asks every engine each picture, and counts.

    Raises:
        UsageError: nothing can be evaluated as asked; or no cluster is there.
        InputError: the build, the bundle, the pictures or the labels cannot be used.
        NotReproducedError: the reference no longer answers as it did.
    """
    with opened_subject(request.build, request.engines, request.threads) as subject:
        picture_contract(subject.model, Path(request.data))
        elsewhere = _elsewhere(request, subject)
        asked = (*subject.engines, *elsewhere)
        if not asked and not subject.broken:
            said = "; ".join(f"{name}: {why}" for name, why in subject.not_here.items())
            raise UsageError(f"no engine of {request.build} can be asked here ({said})")
        not_here = {name: why for name, why in subject.not_here.items() if name not in elsewhere}
        known = replace(subject.described(), not_here=not_here)
    del subject
    targets = {engine.id: engine.target for engine in known.manifest.engines}
    source = pictures_of(request, progress)
    classes, note = _classes(source, known.classes)
    job = EvaluateJob(
        # A cluster's workers have other working directories.
        build=(known.folder or request.build).absolute(),
        engines=asked,
        threads=request.threads,
        with_reference=request.reference,
        classes=classes,
        reference=known.reference,
        on_gpu=any(device_of(targets[name]) is MachineKind.GPU for name in asked),
    )
    parts = list(enumerate(source.parts))
    found = dict(answered(job, source, parts, request, progress))
    total = functools.reduce(
        operator.add, (one for _, some in sorted(found.items()) for one in some)
    )
    if not total.images:
        raise InputError(f"no image can be decoded: {(*source.unreadable, *total.unreadable)[0]}")
    notes = [*source.notes, *([note] if note else []), *_strange(total, known, source)]
    return _evaluation(request, known, source, total, tuple(notes))


def _elsewhere(request: EvaluateRequest, subject: Subject) -> tuple[str, ...]:
    """Engines of a GPU that were asked for: a cluster may run them, where this machine cannot."""
    if request.on is None:
        return ()
    return tuple(
        engine.id
        for engine in subject.manifest.engines
        if engine.id in request.engines
        and engine.id in subject.not_here
        and not engine.rejected
        and device_of(engine.target) is MachineKind.GPU
    )


def _classes(source: Source, names: tuple[str, ...]) -> tuple[Mapping[str, int] | None, str | None]:
    if not source.labelled:
        return None, f"{source.name} has no labels: accuracy is not told"
    if source.labels is not None:
        return match_labels(sorted(source.labels), names, source.name)
    numbers = {str(number): number for number in range(len(names))}
    return {**numbers, **{name: number for number, name in enumerate(names)}}, None


def _strange(total: Tally, subject: Subject, source: Source) -> list[str]:
    """What the reference's answers say of the labels and of the weights."""
    weights = subject.model.weights
    notes = [] if weights.trained else [
        f"the weights are untrained ({weights.source}): the answers mean nothing"
    ]  # fmt: skip
    if total.answers:
        pairs = np.repeat(np.array(list(total.answers)), list(total.answers.values()), axis=0)
        try:
            check_order(pairs[:, 0], pairs[:, 1], subject.classes, source.name)
        except InputError as error:
            notes.append(str(error))
    return notes


def _evaluation(
    request: EvaluateRequest, subject: Subject, source: Source, total: Tally,
    notes: tuple[str, ...],
) -> Evaluation:  # fmt: skip
    few = len(subject.classes) <= TOP

    def share(count: int) -> float | Skipped:
        return count / total.labelled if total.labelled else UNLABELLED

    unreadable = (*source.unreadable, *total.unreadable)
    broken = {name: one.broken for name, one in total.engines.items() if one.broken}
    failures = [f"{name}: {why}" for name, why in {**subject.broken, **broken}.items()]
    if unreadable and not request.skip_unreadable:
        failures.append(
            f"{len(unreadable)} images cannot be read; --skip-unreadable goes on without them: "
            f"{unreadable[0]}"
        )
    engines = []
    for name, one in total.engines.items():
        if one.broken:
            continue
        counts, asked = one.counts, request.reference
        labelled = asked and bool(total.labelled)
        engines.append(
            EvaluatedEngine(
                id=name,
                images=total.images,
                top1=share(one.right.top1),
                top5=FEW_CLASSES if few else share(one.right.top5),
                agreement=1 - counts.flips / max(1, counts.judged) if asked else NO_REFERENCE,
                flips=counts.flips if asked else NO_REFERENCE,
                judged=counts.judged if asked else NO_REFERENCE,
                near_ties=counts.near_ties if asked else NO_REFERENCE,
                lost=counts.lost if labelled else UNLABELLED if asked else NO_REFERENCE,
                gained=counts.gained if labelled else UNLABELLED if asked else NO_REFERENCE,
                unanswered=one.unanswered,
            )
        )
    known = total.reference
    return Evaluation(
        model=subject.model.name,
        data=source.name,
        images=total.images,
        labelled=total.labelled,
        reference=subject.reference if request.reference else NO_REFERENCE,
        top1_reference=share(known.top1) if request.reference else NO_REFERENCE,
        top5_reference=(
            FEW_CLASSES if few else share(known.top5) if request.reference else NO_REFERENCE
        ),
        engines=tuple(engines),
        not_here=tuple(subject.not_here.items()),
        unreadable=unreadable,
        notes=notes,
        failures=tuple(failures),
    )


def render(found: Evaluation, console: Console) -> None:
    """What was found, an engine a row, the reference first."""
    from rich.markup import escape
    from rich.table import Table

    from exporter.commands.print_table import print_table

    def percent(value: float | Skipped) -> str:
        return "" if isinstance(value, Skipped) else f"{100 * value:.2f} %"

    def number(value: int | Skipped) -> str:
        return "" if isinstance(value, Skipped) else str(value)

    table = Table(
        "engine", "top-1", "top-5", "agreement", "flips", "near-ties", "lost, gained",
        title=escape(f"{found.images} images of {found.data} ({found.labelled} labelled)"),
        title_justify="left",
    )  # fmt: skip
    if not isinstance(found.reference, Skipped):
        top1, top5 = percent(found.top1_reference), percent(found.top5_reference)
        table.add_row(escape(found.reference), top1, top5, *[""] * 4)
    for one in found.engines:
        flips = "" if isinstance(one.flips, Skipped) else f"{one.flips} of {number(one.judged)}"
        lost = "" if isinstance(one.lost, Skipped) else f"{one.lost}, {number(one.gained)}"
        table.add_row(
            escape(one.id), percent(one.top1), percent(one.top5), percent(one.agreement), flips,
            number(one.near_ties), lost,
        )  # fmt: skip
    for name, why in found.not_here:
        table.add_row(escape(name), f"[dim]not asked: {escape(why)}[/]", *[""] * 5)
    print_table(table, console)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for file in found.unreadable:
        console.print(f"not read: {file}", markup=False, soft_wrap=True)
