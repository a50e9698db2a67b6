"""Which of a model's classes a label means: by name first, by number, by order only with a note."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.errors import InputError

SHOWN: Final = 12
"""Names that a message lists at most, of each side."""
_ENOUGH: Final = 3
"""Images of a class below which its answers show nothing."""


def match_labels(
    given: Sequence[str], names: Sequence[str], where: str
) -> tuple[Mapping[str, int], str | None]:
    """The number of each label as a class of the model, and what the user should know of it.

    `names` are the model's own, in order: its classes' numbers, where it has no others.

    Raises:
        InputError: the labels are not the model's classes; the message lists both.
    """
    found = sorted(set(given))
    known = {name: number for number, name in enumerate(names)}
    if all(label in known for label in found):
        several = [name for name, times in Counter(names).items() if times > 1 and name in found]
        if several:
            raise InputError(
                f"{where}: the model has more than one class of the name {several[0]!r}; "
                "label its images by the classes' numbers"
            )
        return known, None
    numbers = {str(number): number for number in range(len(names))}
    if all(label in numbers for label in found):
        return numbers, f"{where}: labels are taken as the numbers of the model's classes"
    if len(found) == len(names) and not any(label in known for label in found):
        ordered = {label: number for number, label in enumerate(found)}
        note = (
            f"{where}: no label is a name of the model's, so they are matched by order: "
            f"{found[0]!r} is class {names[0]!r}, and so on; rename them if that is not so"
        )
        return ordered, note
    strange = [label for label in found if label not in known]
    raise InputError(
        f"{where}: {len(strange)} of {len(found)} labels are none of the model's {len(names)} "
        f"classes; labels: {listed(strange)}; the model's: {listed(names)}"
    )


def check_order(
    labels: npt.NDArray[np.int64], answers: npt.NDArray[Any], names: Sequence[str], where: str
) -> None:
    """Refuses labels in another order than the model's, as the reference's own answers show.

    That is so where classes go round: most images of one are answered as another, most of that
    one's as a third or as the first, and so on back to it. A model that is bad at a class answers
    it as one that it knows.

    Raises:
        InputError: the message lists the labels and what the reference answers.
    """
    mostly: dict[int, int] = {}
    for label in np.unique(labels):
        own = answers[labels == label]
        values, times = np.unique(own, return_counts=True)
        if len(own) >= _ENOUGH and times.max() > len(own) / 2:
            mostly[int(label)] = int(values[times.argmax()])
    moved = [label for label in mostly if _goes_round(label, mostly)]
    if moved:
        said = listed([names[label] for label in moved])
        got = listed([names[mostly[label]] for label in moved])
        raise InputError(
            f"{where}: the labels are in another order than the model's classes: images labelled "
            f"{said} are mostly answered {got} by the reference; name them as the model does"
        )


def _goes_round(label: int, mostly: Mapping[int, int]) -> bool:
    at = mostly[label]
    if at == label:
        return False
    for _ in mostly:
        at = mostly.get(at, at)
        if at == label:
            return True
    return False


def listed(names: Sequence[str]) -> str:
    """The first of some names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
