"""What a cause claims of an engine, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.targets import Cause


@dataclass(frozen=True)
class Claim:
    """The kernels that one cause accounts for, and what to do about it."""

    what: str
    """What was seen, in words: how many, where."""
    remedy: str
    """What would mend it, for whoever makes the graph."""
    kernels: frozenset[int]
    """Of the case, by index."""
    decibels: float | None = None
    """By how much the noise would fall; None: it is time that would be won."""
    built_away: bool = True
    """Whether a build of the float32 network, for the same target and precision, has it no more."""


@dataclass(frozen=True)
class Finding:
    """One cause in one engine."""

    cause: Cause
    what: str
    remedy: str
    command: str
    """What would win it with this tool; "": nothing would."""
    kernels: tuple[str, ...]
    """Those that would go or be faster, what converts around them included."""
    milliseconds: float | None
    """What these kernels take in one profiled inference: the most that can be won."""
    decibels: float | None

    @property
    def stops(self) -> bool:
        """Whether it leaves no engine: it is about no kernel, and about no accuracy."""
        return not self.kernels and self.decibels is None
