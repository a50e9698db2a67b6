"""With which threads an engine computes, and how a host was best used when that was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Threads:
    """Of one engine in one process."""

    each: int
    """Of one call."""
    streams: int = 1
    """Calls that are computed side by side."""
    shared: bool = False
    """Other processes compute on the same cores."""

    @property
    def spin(self) -> bool:
        """Whether threads without work wait for it at work, which an otherwise idle host rewards.

        Else they sleep: the core is another process's, or another call's.
        """
        return not self.shared and self.streams == 1

    @property
    def pool(self) -> int:
        """The size of one pool that all calls share, each with a calling thread of its own."""
        return self.streams * (self.each - 1) + 1

    def __str__(self) -> str:
        count = f"{self.each} thread{'s' if self.each > 1 else ''}"
        calls = f"{self.streams} calls of {count}" if self.streams > 1 else count
        return calls if self.spin else f"{calls} that sleep when idle"


@dataclass(frozen=True)
class Advice:
    """The layout that answered most images a second of one engine, and on how many cores."""

    cores: int
    """Those that were measured."""
    processes: int
    streams: int
    """Calls side by side in each process."""
    threads: int
    """Of one call."""
    batch: int
    images_per_s: float
    """Of all processes together."""
    p99_ms: float

    def processes_on(self, cores: int) -> int:
        """As many as this many cores hold, at least one."""
        return max(1, cores // (self.streams * self.threads))
