"""What every source of pictures gives: parts, each of which anybody can read alone.

A part is the same wherever and whenever it is read, so that a result of it can be kept, sent, or
made again. It travels to other processes as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

PART: Final = 64
"""Pictures of a part, where the source does not say itself."""


@dataclass(frozen=True)
class Unread:
    """Why a picture's bytes are not there, from its name on."""

    reason: str


@dataclass(frozen=True)
class Encoded:
    """A picture that is not decoded yet."""

    name: str
    content: bytes | Unread
    label: str | None = None


class Part(Protocol):
    """A piece of a source."""

    @property
    def count(self) -> int | None:
        """Its pictures; None: that is known when it was read."""
        ...

    def pictures(self) -> Iterator[Encoded]:
        """One after the other, read as they are asked for, a few ahead.

        Raises:
            exporter.errors.InputError: the part itself is not there any more, or damaged.
        """
        ...


@dataclass(frozen=True)
class Source:
    """All pictures that a command was given."""

    name: str
    """In words, without a path of this machine."""
    parts: tuple[Part, ...]
    labelled: bool
    labels: frozenset[str] | None = None
    """Those that occur, where that is known before the pictures are read."""
    unreadable: tuple[str, ...] = ()
    """What is wrong with each file that is not even opened."""
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int | None:
        """The pictures; None: that is known once all were read."""
        counts = [part.count for part in self.parts]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None


def batches(part: Part, size: int) -> Iterator[tuple[Encoded, ...]]:
    """A part's pictures, `size` at a time.

    Never with those of another part: a batch is the same, whoever computes it.
    """
    pictures = part.pictures()
    while batch := tuple(islice(pictures, size)):
        yield batch
