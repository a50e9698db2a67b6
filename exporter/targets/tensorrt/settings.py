"""What a TensorRT build may be asked for with `--setting KEY=VALUE`.

    profile                 MIN:OPT:MAX batch sizes of the optimization profile. One profile is
                            tuned at its OPT; full TensorRT gets one of its own for batch 1 besides.
    tf32                    on: FP32 products may round their inputs to TF32's 10-bit mantissa.
                            TensorRT's default is on; ours is off, since FP32's parity limit is.
    memory_mb               What the builder process may allocate (Linux); more is an error.
    optimization_level      0 to 5: how long the builder looks for faster kernels.
    hardware_compatibility  ampere_plus or same_compute_capability: the plan runs on more GPUs than
                            this one, at some cost in speed.
    version_compatible      on: the plan loads in later minor versions of the same major one.
    strip_weights           on: the plan has no weights; they lie beside it as ONNX and are put
                            back when it is loaded.
    timing_cache            A folder where measured kernel times are kept from build to build.

TensorRT-RTX has the first three; it tunes on the device when it loads a plan, and its plans name
their GPU by the target's variant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from exporter.errors import UsageError, unknown_name

RTX_KEYS: Final = ("profile", "tf32", "memory_mb")
ALL_KEYS: Final = (
    *RTX_KEYS,
    "optimization_level",
    "hardware_compatibility",
    "version_compatible",
    "strip_weights",
    "timing_cache",
)


@dataclass(frozen=True)
class Profile:
    """The batch sizes of one optimization profile."""

    min: int
    opt: int
    max: int

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"


@dataclass(frozen=True)
class TensorRtSettings:
    """The settings of one build; the defaults are those of the command line."""

    profile: Profile = Profile(1, 8, 32)
    tf32: bool = False
    memory_mb: int | None = None
    optimization_level: int | None = None
    hardware_compatibility: str | None = None
    version_compatible: bool = False
    strip_weights: bool = False
    timing_cache: str | None = None

    @classmethod
    def parse(
        cls, settings: Mapping[str, str], keys: tuple[str, ...], target: str
    ) -> TensorRtSettings:
        """Reads `KEY=VALUE` settings of which `keys` exist for `target`.

        Raises:
            UsageError: an unknown key, or a value that is not of its kind.
        """
        values: dict[str, Any] = {}
        for key, text in settings.items():
            if key not in keys:
                raise unknown_name(f"setting of target {target}", key, keys)
            values[key] = _READERS[key](key, text)
        return cls(**values)


def _profile(key: str, text: str) -> Profile:
    found = re.fullmatch(r"(\d+):(\d+):(\d+)", text)
    sizes = tuple(int(size) for size in found.groups()) if found else (0, 0, 0)
    if not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise UsageError(f"{key} {text!r}: give batch sizes MIN:OPT:MAX, as in 1:8:32")
    return Profile(*sizes)


def _switch(key: str, text: str) -> bool:
    if text not in {"on", "off"}:
        raise UsageError(f"--setting {key}={text}: give on or off")
    return text == "on"


def _count(low: int, high: int) -> Callable[[str, str], int]:
    def read(key: str, text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise UsageError(f"--setting {key}={text}: give a number from {low} to {high}")
        return int(text)

    return read


def _choice(*choices: str) -> Callable[[str, str], str]:
    def read(key: str, text: str) -> str:
        if text not in choices:
            raise UsageError(f"--setting {key}={text}: give {' or '.join(choices)}")
        return text

    return read


def _path(key: str, text: str) -> str:
    if not text:
        raise UsageError(f"--setting {key}=: give a folder")
    return text


_READERS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "profile": _profile,
    "tf32": _switch,
    "memory_mb": _count(64, 1 << 24),
    "optimization_level": _count(0, 5),
    "hardware_compatibility": _choice("ampere_plus", "same_compute_capability"),
    "version_compatible": _switch,
    "strip_weights": _switch,
    "timing_cache": _path,
}
