"""From what a program gives to what a request holds: tuples, paths and enums.

A list may be any iterable, or a text with commas as on the command line; an enum's member may be
given by its value, a path as a text. Each function is the converter of a request's field, and what
it takes is what type checkers let a caller give.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import Final, Literal, TypeVar

from exporter.artifact import CalibrationMethod, Channels, Interpolation, Precision
from exporter.errors import UsageError, unknown_name
from exporter.quantize.method import Correction
from exporter.targets.target import MachineKind

T = TypeVar("T")
Member = TypeVar("Member", bound=StrEnum)
MOST_DECIBELS: Final = 120.0
"""About what FP32 itself reaches; no set of INT8 and FP32 blocks is nearer to the reference."""
FloatPrecision = Literal[Precision.FP32, Precision.FP16]


def words(given: str | Iterable[str]) -> tuple[str, ...]:
    """Each word once, in the order given."""
    listed = [word.strip() for word in given.split(",")] if isinstance(given, str) else list(given)
    for word in listed:
        if not isinstance(word, str):
            raise UsageError(f"{word!r} in {listed}: give texts, as in ['fp32', 'int8']")
    return tuple(dict.fromkeys(word for word in listed if word))


def batches(given: str | Iterable[int]) -> tuple[int, ...]:
    """Each positive number once, in the order given."""
    problem = f"batches {given!r}: give positive numbers, as in 1,8,32"
    if isinstance(given, str):
        given = [int(word) if word.isdecimal() else 0 for word in words(given)]
    try:
        found = tuple(dict.fromkeys(operator.index(count) for count in given))
    except TypeError:
        raise UsageError(problem) from None
    if not all(count > 0 for count in found):
        raise UsageError(problem)
    return found


def numbers(given: str | float | Iterable[float]) -> tuple[float, ...]:
    """Finite numbers; one alone is a list of one."""
    try:
        found = tuple(float(word) for word in listed(given))
    except (TypeError, ValueError):
        found = (math.nan,)
    if not all(math.isfinite(number) for number in found):
        raise UsageError(f"--mean or --std {given!r}: give numbers, as in 0.485,0.456,0.406")
    return found


def lengths(given: str | int | Iterable[int]) -> tuple[int, ...]:
    """Whole numbers of pixels; one alone is a list of one."""
    try:
        return tuple(
            int(word) if isinstance(word, str) else operator.index(word) for word in listed(given)
        )
    except (TypeError, ValueError):
        raise UsageError(
            f"--resize or --crop {given!r}: give one length in pixels, or HEIGHT,WIDTH"
        ) from None


def image_size(given: str | int | Iterable[int] | None) -> int | tuple[int, int] | None:
    """A side in pixels, or (height, width) where the two differ; as a text "480x640"."""
    if given is None:
        return None
    try:
        words = re.split("[x,]", given.lower()) if isinstance(given, str) else listed(given)
        sizes = [int(word) if isinstance(word, str) else operator.index(word) for word in words]
    except (TypeError, ValueError):
        sizes = []
    if isinstance(given, bool) or len(sizes) not in (1, 2) or min(sizes) < 1:
        raise UsageError(
            f"image_size is {given!r}: give a whole number of at least 1, or HEIGHTxWIDTH as in "
            "480x640"
        )
    return sizes[0] if len(set(sizes)) == 1 else (sizes[0], sizes[1])


def input_shapes(given: str | Iterable[str] | Mapping[str, Iterable[int]]) -> tuple[str, ...]:
    """Shapes by the inputs' names, as "depth=1x224x224"; a mapping's are without a batch."""
    if isinstance(given, Mapping):
        try:
            given = [f"{name}={'x'.join(map(str, sizes))}" for name, sizes in given.items()]
        except TypeError:
            raise UsageError(
                f"inputs is {given!r}: give a shape of each, as in {{'depth': (1, 224, 224)}}"
            ) from None
    return words(given)


def listed(given: str | T | Iterable[T]) -> list[str] | list[T]:
    """The items of a list, of a text with commas, or of something single."""
    if isinstance(given, str):
        return [word.strip() for word in given.split(",") if word.strip()]
    return list(given) if isinstance(given, Iterable) else [given]


def interpolation(given: str | None) -> Interpolation | None:
    """A filter by its name."""
    return None if given is None else member(Interpolation, given)


def channels(given: str | None) -> Channels | None:
    """What a picture's channels are, by its name."""
    return None if given is None else member(Channels, given)


def contract_source(
    given: str | PathLike[str] | Mapping[str, object] | None,
) -> Path | Mapping[str, object] | None:
    """A file with a contract, or what it would hold."""
    return given if given is None or isinstance(given, Mapping) else path(given)


def precisions(given: str | Iterable[str]) -> tuple[Precision, ...]:
    """Precisions by their names."""
    return tuple(member(Precision, word) for word in words(given))


def float_precision(given: str) -> FloatPrecision:
    """FP32 or FP16."""
    found = member(Precision, given)
    if found is not Precision.FP32 and found is not Precision.FP16:
        raise UsageError(f"{given!r} is not one of 'fp32', 'fp16'")
    return found


def calibration_method(given: str) -> CalibrationMethod:
    """A method by its name."""
    return member(CalibrationMethod, given)


def device(given: str) -> MachineKind:
    """A kind of device by its name."""
    return member(MachineKind, given)


def correction(given: str) -> Correction:
    """A correction by its name."""
    return member(Correction, given)


def path(given: str | PathLike[str]) -> Path:
    """A path."""
    if not isinstance(given, str | PathLike):
        raise UsageError(
            f"{given!r} is a {type(given).__name__}: give the path of a file or folder"
        )
    return Path(given)


def optional_path(given: str | PathLike[str] | None) -> Path | None:
    """A path, or nothing."""
    return None if given is None else path(given)


def uri(given: str | PathLike[str]) -> str:
    """A path or a URI, as a text."""
    return str(path(given)) if isinstance(given, PathLike) else str(given)


def settings(given: Mapping[str, Mapping[str, str | int]]) -> Mapping[str, Mapping[str, str]]:
    """Target -> key -> value, each value as a text."""
    try:
        return {
            target: {key: str(value) for key, value in own.items()} for target, own in given.items()
        }
    except AttributeError:
        raise UsageError(
            f"{given!r}: give settings by target and key, as in {{TARGET: {{'memory_mb': 4096}}}}"
        ) from None


def member(kind: type[Member], given: str) -> Member:
    """The member of an enum with that value, in small letters or capitals.

    Raises:
        UsageError: it has none; the message names the nearest.
    """
    named = {str(one).lower(): one for one in kind}
    if str(given).lower() not in named:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()
        raise unknown_name(name, str(given), list(kind))
    return named[str(given).lower()]


def share(given: str | float) -> str:
    """A share of the images as its percentage: "0.5%", which may be given as 0.005, too.

    Raises:
        UsageError: no number, or not between 0 and half of them.
    """
    found = fraction(given)
    if not 0 < found < 0.5:
        raise UsageError(f"{given!r} is no budget: give a share above 0 and below 50 %, as in 0.5%")
    return f"{100 * found:.6g}%"


def budgeted_drop(given: str | float | None) -> str | None:
    """A share as `share` reads it, or nothing; an error names the option."""
    try:
        return None if given is None else share(given)
    except UsageError as error:
        raise UsageError(f"--max-drop {error}") from None


def budgeted_agreement(given: str | float | None) -> str | None:
    """A share of the images as its percentage: "99%", which may be given as 0.99, too.

    Raises:
        UsageError: no number, or not between half of them and all.
    """
    if given is None:
        return None
    found = fraction(given)
    if not 0.5 < found < 1:
        raise UsageError(
            f"--min-agreement {given!r} is no budget: give a share above 50 % and below 100 %, "
            "as in 99%"
        )
    return f"{100 * found:.6g}%"


def budgeted_decibels(given: float | None) -> float | None:
    """Decibels above 0, at most MOST_DECIBELS, or nothing.

    Raises:
        UsageError: no number, or not in that range.
    """
    if given is None:
        return None
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not (0 < given <= MOST_DECIBELS)
    ):
        raise UsageError(
            f"--min-sqnr {given!r} is no budget: give decibels above 0 and at most "
            f"{MOST_DECIBELS:g}, as in 30"
        )
    return float(given)


def confidence(given: str | float) -> float:
    """At least half, less than 1.

    Raises:
        UsageError: it is not.
    """
    found = fraction(given)
    if not 0.5 <= found < 1:
        raise UsageError(f"confidence {given!r}: give at least 0.5 and less than 1, as in 0.95")
    return found


def fraction(given: str | float) -> float:
    """The number in "0.5%", "0.005" or 0.005; not a number where it is none."""
    text = str(given).strip()
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return math.nan
