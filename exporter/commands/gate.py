"""`exporter gate`: may these engines be released? Each against the reference, image by image.

A build's manifest and report get what was found; a bundle stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from exporter.artifact import Skipped
from exporter.builds import converters
from exporter.builds import manifest as manifests
from exporter.builds.codec import json_text
from exporter.builds.gate_request import GateRequest
from exporter.builds.records import Manifest
from exporter.builds.staging import check_writable
from exporter.commands.gated_engines import Subject, opened_subject
from exporter.errors import InputError, UsageError
from exporter.images import opencv
from exporter.images.class_labels import check_order
from exporter.images.labelled import LabelledImages, open_labelled
from exporter.progress import Progress
from exporter.prove.bounds import rate_at_most
from exporter.prove.gate_record import Decision, Decoders, Gate, GatedEngine
from exporter.prove.paired import OPENCV, Answered, ask_all, judge, judge_decoders
from exporter.prove.release_gate import Limits
from exporter.report import write_report

if TYPE_CHECKING:
    from rich.console import Console

FILES_LISTED: Final = 10
"""Unreadable files that are named."""
_CHANCE: Final = 1.5
"""Up to so many times the share that guessing answers rightly, labels are strange to a model."""


@dataclass(frozen=True)
class Gated:
    """What `exporter gate` found, and each reason for which it ends with exit code 1."""

    manifest: Manifest
    """The build's with the gate in it; of a bundle as it was packed."""
    gate: Gate
    not_here: tuple[tuple[str, str], ...]
    """(engine, reason) of each that was not asked."""
    failures: tuple[str, ...]

    def to_json(self) -> str:
        """The same without the record of the build, for programs."""
        return json_text(GateOutcome(self.manifest.model.name, self.gate, self.failures))


@dataclass(frozen=True)
class GateOutcome:
    """What `exporter gate --json` prints."""

    model: str
    gate: Gate
    failures: tuple[str, ...]


def gate(request: GateRequest, progress: Progress) -> Gated:
    """Asks every engine each image, and decides.

    Raises:
        UsageError: nothing can be gated as asked.
        InputError: the build, the bundle, the images or the labels cannot be used.
        NotReproducedError: the reference no longer answers as it did.
    """
    limits = Limits(
        max_drop=converters.fraction(request.max_drop),
        max_flips=converters.fraction(request.max_flips),
        confidence=request.confidence,
    )
    with opened_subject(request.build, request.engines, request.threads) as subject:
        if subject.folder is not None:
            check_writable(subject.folder)
        if not subject.engines and not subject.broken:
            said = "; ".join(f"{name}: {why}" for name, why in subject.not_here.items())
            raise UsageError(f"no engine of {request.build} can be gated here ({said})")
        images = open_labelled(
            subject.model, subject.classes, request.data, request.labels, progress
        )
        weights = subject.model.weights
        untrained = f"the weights are untrained ({weights.source}): the answers mean nothing"
        images = replace(images, notes=(*images.notes, *([] if weights.trained else [untrained])))
        for note in images.notes:
            progress.note(note)
        found, broken = _judged(subject, images, limits, progress)
    manifest = subject.manifest
    if subject.folder is not None:
        manifest = replace(manifest, gate=found)
        manifests.write(subject.folder, manifest)
        write_report(subject.folder, manifest)
    failures = [f"{name}: {why}" for name, why in {**subject.broken, **broken}.items()]
    failures += [
        f"{one.id}: {_why(one, found)}" for one in found.engines if one.decision != Decision.PASS
    ]
    if found.unreadable and not request.skip_unreadable:
        listed = "; ".join(found.unreadable)
        failures.append(f"images cannot be read; --skip-unreadable goes on without them: {listed}")
    return Gated(manifest, found, tuple(subject.not_here.items()), tuple(failures))


def _judged(
    subject: Subject, images: LabelledImages, limits: Limits, progress: Progress
) -> tuple[Gate, dict[str, str]]:
    with progress.stage("ask every engine", len(images.names)) as advance:
        answered = ask_all(
            images, subject.answers_of_reference, subject.engines, subject.batch, advance
        )
    if images.labels is not None:
        labels = images.labels[answered.images]
        check_order(labels, answered.reference, subject.classes, images.source)
        _check_known(labels == answered.reference, len(subject.classes), limits, images.source)
    unreadable = (*images.unreadable, *answered.unreadable)
    more = len(unreadable) - FILES_LISTED
    return (
        Gate(
            data=images.source,
            images=len(answered.images),
            sha256=images.sha256,
            reference=subject.reference,
            max_drop=limits.max_drop,
            max_flips=limits.max_flips,
            confidence=limits.confidence,
            engines=tuple(
                judge(answered, name, images, subject.classes, subject.near_tie, limits)
                for name in answered.engines
                if name != OPENCV
            ),
            unreadable=(*unreadable[:FILES_LISTED], *([f"and {more} more"] if more > 0 else [])),
            notes=images.notes,
            decoders=_decoders(answered, images, subject),
        ),
        dict(answered.broken),
    )


def _decoders(answered: Answered, images: LabelledImages, subject: Subject) -> Decoders | Skipped:
    contract = subject.model.preprocessing
    if isinstance(images.read_with_opencv, Skipped):
        return images.read_with_opencv
    if isinstance(contract, Skipped):
        return contract
    return judge_decoders(
        answered,
        images,
        subject.classes,
        subject.near_tie,
        (opencv.pillow_in_words(contract), opencv.in_words(contract)),
    )


def _check_known(known: npt.NDArray[np.bool_], classes: int, limits: Limits, source: str) -> None:
    """Refuses labels of which the reference knows so few that no engine could lose the limit."""
    right = int(known.sum())
    little = max(limits.max_drop, _CHANCE / classes if classes > 2 else 0.0)
    if rate_at_most(right, len(known), limits.confidence) <= little:
        raise InputError(
            f"{source}: the reference answers {right} of {len(known)} images as they are labelled, "
            "as by chance: the labels are not this model's; mend them, or give images without any"
        )


def _why(engine: GatedEngine, found: Gate) -> str:
    """The decision with the figures behind it."""
    words = f"{engine.in_words} (flips {engine.flips} of {engine.judged}, "
    words += _between(engine.flips_at_least, engine.flips_at_most, found.max_flips)
    if not isinstance(engine.drop_at_most, Skipped) and not isinstance(
        engine.drop_at_least, Skipped
    ):
        words += f"; accuracy lost {engine.lost}, gained {engine.gained}, "
        words += _between(engine.drop_at_least, engine.drop_at_most, found.max_drop)
    return words + ")"


def _between(low: float, high: float, most: float) -> str:
    return f"{100 * low:.2f} to {100 * high:.2f} %, allowed {100 * most:.3g} %"


def render(gated: Gated, console: Console) -> None:
    """What was found, an engine a row."""
    from rich.markup import escape
    from rich.table import Table

    from exporter.commands.print_table import print_table

    found = gated.gate
    share = f"{100 * found.confidence:g} %"
    table = Table(
        "engine", "flips", "near-ties", f"flips at most ({share})", "lost, gained", "top-1",
        f"drop at most ({share})", "verdict",
        title=escape(
            f"{found.images} images of {found.data} against {found.reference}; allowed: flips "
            f"{100 * found.max_flips:.3g} %, drop {100 * found.max_drop:.3g} %"
        ),
        title_justify="left",
    )  # fmt: skip
    colours = {Decision.PASS: "green", Decision.FAIL: "red", Decision.UNDECIDED: "yellow"}
    for one in found.engines:
        drop, top1 = one.drop_at_most, one.top1
        table.add_row(
            escape(one.id),
            f"{one.flips} of {one.judged}",
            str(one.near_ties),
            f"{100 * one.flips_at_most:.2f} %",
            "" if isinstance(one.lost, Skipped) else f"{one.lost}, {one.gained}",
            "" if isinstance(top1, Skipped) else f"{100 * top1:.2f} %",
            "no labels" if isinstance(drop, Skipped) else f"{100 * drop:.2f} %",
            f"[{colours[one.decision]}]{one.in_words}[/]",
        )
    for name, why in gated.not_here:
        table.add_row(escape(name), *[""] * 6, f"[dim]not asked: {escape(why)}[/]")
    print_table(table, console)
    console.print(_of_decoders(found.decoders), markup=False, soft_wrap=True)
    for file in found.unreadable:
        console.print(f"not read: {file}", markup=False, soft_wrap=True)


def _of_decoders(found: Decoders | Skipped) -> str:
    if isinstance(found, Skipped):
        return f"decoders not compared: {found.skipped}"
    words = (
        f"decoders: {found.other} in place of the contract's {found.contract} gives "
        f"{found.flips} of {found.judged} images another class ({found.points:.2f} points agree"
    )
    if not isinstance(found.top1, Skipped) and not isinstance(found.top1_other, Skipped):
        words += f"; top-1 {100 * found.top1_other:.2f} % in place of {100 * found.top1:.2f} %"
    return words + ")"
