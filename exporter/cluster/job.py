"""Work that is done in parts, and by whom it does not matter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeVar

from exporter.images.sources.source import Encoded

R_co = TypeVar("R_co", covariant=True)

BATCH: Final = 8
"""Pictures that an engine is asked at once. It is the same everywhere, as are an engine's threads:
sums of floats depend on both."""


class Job(Protocol[R_co]):
    """It travels to other processes as it is."""

    def opened(self, workers: int) -> AbstractContextManager[Callable[[tuple[Encoded, ...]], R_co]]:
        """What answers a batch of pictures, as long as it is open; for so many threads at a time.

        Raises:
            exporter.errors.ExporterError: an engine does not load, or does not prove itself.
        """
        ...


class PlacedJob(Job[R_co], Protocol[R_co]):
    """A job that a cluster can give a place to."""

    @property
    def on_gpu(self) -> bool:
        """Whether what it opens computes on a GPU.

        It has one for itself then and is loaded once: its threads decode side by side and ask it
        in turn.
        """
        ...
