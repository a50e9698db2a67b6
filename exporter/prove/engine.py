"""One engine against the reference: what `export` and `validate` both ask of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.artifact import Skipped
from exporter.errors import BuildError
from exporter.progress import Progress
from exporter.prove.certificate import Accuracy, Parity, Scope
from exporter.prove.parity import check_accuracy, check_parity
from exporter.prove.reference import Reference

if TYPE_CHECKING:
    from exporter.targets import Session


@dataclass(frozen=True)
class Proof:
    """What an engine's answers showed."""

    parity: Parity | Skipped
    accuracy: Accuracy | None = None
    failure: str | None = None
    """Why it gave no answers: it does not load, or failed to run."""


def check_engine(
    open_session: Callable[[], Session],
    reference: Reference,
    limits: Mapping[str, float],
    *,
    scope: Scope,
    progress: Progress,
    title: str,
) -> Proof:
    """Loads an engine and compares its answers; one that cannot give any is a failure, no error."""
    try:
        with open_session() as session:
            parity, outputs = check_parity(
                session, reference, limits, scope=scope, progress=progress, title=title
            )
    except BuildError as error:
        return Proof(Skipped(f"it gave no answers: {error}"), failure=str(error))
    return Proof(parity, check_accuracy(outputs, reference))
