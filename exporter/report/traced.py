"""Values of a manifest that know where in its file they stand, and figures made of them.

Each number on the page is a `Figure`: it is shown rounded and carries its exact value and the path
of its source (`engines[2].latency.p50_ms`), so that a reader can look it up in `manifest.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from exporter.artifact import Skipped
from exporter.builds.codec import RENAMED
from exporter.measure.timing import Latency

DIGITS: Final = 3
"""Significant digits of a rounded figure."""

T_co = TypeVar("T_co", covariant=True)


class Traced(Generic[T_co]):
    """A record of a manifest, or a part of one, together with its path in the file.

    It is read as the record itself: `engine.latency.p50_ms`, `versions["torch"]`, `blocks[0]`.
    Code that decides something reads `raw`, whose type is known.
    """

    __slots__ = ("raw", "where")

    def __init__(self, raw: T_co, where: str = "") -> None:
        self.raw = raw
        self.where = where

    def __getattr__(self, name: str) -> Traced[Any]:
        key = RENAMED.get(name, name)
        return Traced(getattr(self.raw, name), f"{self.where}.{key}" if self.where else key)

    def __getitem__(self, key: str | int) -> Traced[Any]:
        raw: Any = self.raw
        shown = f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{json.dumps(key)}]"
        return Traced(raw[key], self.where + shown)

    def __iter__(self) -> Iterator[Traced[Any]]:
        """The elements of a sequence (a mapping's values), each with its path."""
        raw: Any = self.raw
        return (self[key] for key in (raw if isinstance(raw, Mapping) else range(len(raw))))

    def __len__(self) -> int:
        raw: Any = self.raw
        return len(raw)

    def __bool__(self) -> bool:
        return bool(self.raw)

    def __str__(self) -> str:
        return str(self.raw)


def is_skipped(value: Traced[Any]) -> bool:
    """Whether a value was not obtained; then `value.skipped` says why."""
    return isinstance(value.raw, Skipped)


@dataclass(frozen=True)
class Figure:
    """A number as it is shown, its exact value, and where in the manifest that comes from."""

    text: str
    value: float
    sources: tuple[str, ...]
    """Several where the figure was computed from several values."""

    def __html__(self) -> str:
        from markupsafe import escape

        value = json.dumps(self.value) if math.isfinite(self.value) else str(self.value)
        sources = " ".join(self.sources)
        title = f"{sources} = {value}" if len(self.sources) == 1 else f"{value}, from {sources}"
        return (
            f'<data value="{escape(value)}" data-source="{escape(sources)}" '
            f'title="{escape(title)}">{escape(self.text)}</data>'
        )

    def __str__(self) -> str:
        return self.text


def significant(value: float, digits: int = DIGITS) -> str:
    """Without an exponent: 0.0621, 9.28, 51.6, 1240."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    exponent = math.floor(math.log10(abs(value)))
    # Rounding may carry into the next decade: 9.996 has three digits as 10.0.
    rounded = round(value, digits - 1 - exponent) or value
    exponent = math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(digits - 1 - exponent, 0)}f}"


def scientific(value: float) -> str:
    """3.1e-7; 2.2 and 0 need no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if int(exponent) else mantissa


def _shown(
    value: Traced[float], form: Callable[[float], str], unit: str = "", scale: float = 1.0
) -> Figure:
    text = form(value.raw * scale)
    return Figure(f"{text}\N{NO-BREAK SPACE}{unit}" if unit else text, value.raw, (value.where,))


def count(value: Traced[int]) -> Figure:
    """A whole number, thousands apart: 25 557 032."""
    text = f"{value.raw:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return Figure(text, value.raw, (value.where,))


def milliseconds(value: Traced[float]) -> Figure:
    return _shown(value, significant, "ms")


def microseconds(value: Traced[float]) -> Figure:
    return _shown(value, significant, "\N{MICRO SIGN}s")


def plain_number(value: Traced[float]) -> Figure:
    """Three significant digits, no unit: for columns whose heading has it."""
    return _shown(value, significant)


def times(value: Traced[float]) -> Figure:
    """A ratio: 5.47x."""
    return _shown(value, lambda x: significant(x) + "\N{MULTIPLICATION SIGN}")


def error(value: Traced[float]) -> Figure:
    """A relative error: 3.1e-7."""
    return _shown(value, scientific)


def decibels(value: Traced[float]) -> Figure:
    return _shown(value, lambda x: f"{x:.1f}", "dB")


def percent(value: Traced[float]) -> Figure:
    return _shown(value, lambda x: f"{x:.2f}", "%", 100)


def megabytes(value: Traced[float]) -> Figure:
    return _shown(value, significant, "MB", 1e-6)


def si(value: Traced[int]) -> Figure:
    """With the prefix that fits: 4.09 G, 40.8 M, 272 k."""
    for power, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value.raw >= power:
            return _shown(value, significant, prefix, 1 / power)
    return count(value)


def derived(value: float, text: str, *sources: Traced[Any]) -> Figure:
    """A figure that the page computes from values of the manifest."""
    return Figure(text, value, tuple(source.where for source in sources))


def images_per_second(latency: Traced[Latency]) -> Figure | None:
    """Of one engine that runs batch after batch: 1000 * batch / p50_ms; None: no rate follows."""
    p50_ms = latency.raw.p50_ms
    if not 0 < p50_ms < math.inf:
        return None
    rate = 1000 * latency.raw.batch / p50_ms
    return derived(rate, significant(rate), latency.batch, latency.p50_ms)


FILTERS: Final[Mapping[str, Any]] = {
    "count": count, "ms": milliseconds, "micro": microseconds,
    "num": plain_number, "times": times, "error": error,
    "db": decibels, "percent": percent, "megabytes": megabytes, "si": si,
}  # fmt: skip
"""Names that templates use."""

Parts = Sequence[str | Figure]
"""A sentence: words and the figures between them."""
