"""Values of a manifest that know where in it they stand, and figures made of them.

Each number on the page is a `Figure`: it is shown rounded and carries its exact value and the path
of its source (`engines[2].latency.p50_ms`), so that a reader can look it up in `manifest.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exporter.errors import InputError

DIGITS: Final = 3
"""Significant digits of a rounded figure."""


class Traced:
    """A manifest, or a part of it, together with its path; `None` where a value is absent.

    Templates read it as they would the manifest itself: `engine.latency.p50_ms`.
    """

    __slots__ = ("raw", "where")

    def __init__(self, raw: Any, where: str = "") -> None:
        self.raw = raw
        self.where = where

    def __getitem__(self, key: str | int) -> Traced:
        try:
            return Traced(self.raw[key], self._path_of(key))
        except (KeyError, IndexError, TypeError):
            raise InputError(
                f"the manifest has no {self._path_of(key)}; export the model again"
            ) from None

    def __iter__(self) -> Iterator[Traced]:
        """The elements of a list (a mapping's values), each with its path."""
        keys = self.raw if isinstance(self.raw, Mapping) else range(len(self.raw))
        return (self[key] for key in keys)

    def __len__(self) -> int:
        return len(self.raw)

    def __bool__(self) -> bool:
        return bool(self.raw)

    def __str__(self) -> str:
        return str(self.raw)

    def has(self, key: str) -> bool:
        """Whether this is a mapping that has such a key."""
        return isinstance(self.raw, Mapping) and key in self.raw

    def _path_of(self, key: str | int) -> str:
        if isinstance(key, int):
            return f"{self.where}[{key}]"
        if not key.isidentifier():
            return f"{self.where}[{json.dumps(key)}]"
        return f"{self.where}.{key}" if self.where else key


@dataclass(frozen=True)
class Figure:
    """A number as it is shown, its exact value, and where in the manifest that comes from."""

    text: str
    value: float | str
    sources: tuple[str, ...]
    """Several where the figure was computed from several values."""

    def __html__(self) -> str:
        from markupsafe import escape

        value = self.value if isinstance(self.value, str) else json.dumps(self.value)
        sources = " ".join(self.sources)
        title = f"{sources} = {value}" if len(self.sources) == 1 else f"{value}, from {sources}"
        return (
            f'<data value="{escape(value)}" data-source="{escape(sources)}" '
            f'title="{escape(title)}">{escape(self.text)}</data>'
        )

    def __str__(self) -> str:
        return self.text


def number(value: Traced) -> float | None:
    """A finite number, else None (the manifest writes what is not finite as a string)."""
    raw = value.raw
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        return None
    return float(raw)


def significant(value: float, digits: int = DIGITS) -> str:
    """Without an exponent: 0.0621, 9.28, 51.6, 1240."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    rounded = round(value, digits - 1 - exponent)
    # Rounding may carry into the next decade: 9.996 has three digits as 10.0.
    exponent = math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(digits - 1 - exponent, 0)}f}"


def scientific(value: float) -> str:
    """3.1e-7; zero is 0."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _figure(value: Traced, text: str) -> Figure:
    return Figure(text, value.raw, (value.where,))


def _shown(value: Traced, form: Any, unit: str = "", scale: float = 1.0) -> Figure:
    finite = number(value)
    text = str(value.raw) if finite is None else form(finite * scale)
    return _figure(value, f"{text}\N{NO-BREAK SPACE}{unit}" if unit else text)


def count(value: Traced) -> Figure:
    """A whole number, thousands apart: 25 557 032."""
    return _figure(value, f"{value.raw:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"))


def milliseconds(value: Traced) -> Figure:
    return _shown(value, significant, "ms")


def microseconds(value: Traced) -> Figure:
    return _shown(value, significant, "\N{MICRO SIGN}s")


def plain_number(value: Traced) -> Figure:
    """Three significant digits, no unit: for columns whose heading has it."""
    return _shown(value, significant)


def times(value: Traced) -> Figure:
    """A ratio: 5.47x."""
    return _shown(value, lambda x: significant(x) + "\N{MULTIPLICATION SIGN}")


def error(value: Traced) -> Figure:
    """A relative error: 3.1e-7."""
    return _shown(value, scientific)


def decibels(value: Traced) -> Figure:
    return _shown(value, lambda x: f"{x:.1f}", "dB")


def percent(value: Traced) -> Figure:
    return _shown(value, lambda x: f"{x:.2f}", "%", 100)


def megabytes(value: Traced) -> Figure:
    return _shown(value, significant, "MB", 1e-6)


def si(value: Traced) -> Figure:
    """With the prefix that fits: 4.09 G, 40.8 M, 272 k."""
    for power, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if (number(value) or 0) >= power:
            return _shown(value, significant, prefix, 1 / power)
    return count(value)


def derived(value: float, text: str, *sources: Traced) -> Figure:
    """A figure that the page computes from values of the manifest."""
    return Figure(text, value, tuple(source.where for source in sources))


def images_per_second(latency: Traced) -> Figure | None:
    """Of one engine that runs batch after batch: 1000 * batch / p50_ms."""
    p50_ms, batch = number(latency["p50_ms"]), number(latency["batch"])
    if not p50_ms or not batch:
        return None
    rate = 1000 * batch / p50_ms
    return derived(rate, significant(rate), latency["batch"], latency["p50_ms"])


FILTERS: Final[Mapping[str, Any]] = {
    "count": count, "ms": milliseconds, "micro": microseconds,
    "num": plain_number, "times": times, "error": error,
    "db": decibels, "percent": percent, "megabytes": megabytes, "si": si,
}  # fmt: skip
"""Names that templates use."""

Parts = Sequence[str | Figure]
"""A sentence: words and the figures between them."""
