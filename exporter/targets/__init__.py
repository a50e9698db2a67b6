"""The targets: what builds, runs and reads back engines, one file each, imported on first use.

A target answers three questions (`build`, `open`, `kernels`); `receipt.py` alone counts kernels.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from exporter.artifact import Dialect, Kernel, Precision, Skipped, Verdict
from exporter.errors import UsageError, unknown_name

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class BuildOptions:
    """What a build may be asked for beyond graph and precision."""

    allow_fallback: bool = False
    """Accept nodes that the runtime places on the CPU (GPU providers of ONNX Runtime)."""
    keep: tuple[str, ...] = ()
    """Module paths that INT8 leaves in higher precision."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Target-specific settings, each documented by its target; an unknown key is an error."""
    report: Callable[[str], None] = lambda _text: None
    """Told what a long build is doing, a few words at a time."""


@dataclass(frozen=True)
class BuildResult:
    """The files of a built engine (the first is what the runtime is given) and its needs."""

    files: tuple[Path, ...]
    requires: dict[str, Any]


class Session(Protocol):
    """An engine loaded and ready: `close` it, or use it as a context manager."""

    def run(self, batch: Array) -> Array:
        """The first output for a batch of inputs, both with the batch dimension first."""
        ...

    def run_named(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by its name, for inputs by name (debug copies have several of both)."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Session: ...

    def __exit__(self, *exc: object) -> None: ...


class Target(Protocol):
    """One runtime on one kind of hardware."""

    family: str
    """The name without a variant: "tensorrt-rtx"."""
    has_profiles: bool
    """Whether an engine has optimization profiles, so that `--profile` means something to it."""
    accepts_fallback: bool
    """Whether `--allow-fallback` means something to it."""
    prediction_example: str
    """Options of `export` that build an engine whose cost is predicted; "": none is."""
    name: str
    """As typed: "ort-cpu", "tensorrt-rtx:sm89"."""

    def dialect(self, precision: Precision) -> Dialect:
        """Which dialect this runtime fuses. Raises UsageError for a precision it does not have."""
        ...

    def expected(self, precision: Precision) -> Verdict:
        """The receipt's verdict that this target and precision are known to reach."""
        ...

    def runs_here(self) -> Skipped | None:
        """None where an engine can run on this machine, else why not."""
        ...

    def build(
        self, graph: Path, precision: Precision, out: Path, options: BuildOptions
    ) -> BuildResult:
        """Writes the engine for a lowered ONNX file. `out` is the file's path without suffix.

        Raises BuildError; leaves nothing half-written.
        """
        ...

    def open(self, engine: Path, threads: int) -> Session:
        """Loads an engine with everything it requires set."""
        ...

    def kernels(self, engine: Path) -> tuple[tuple[Kernel, ...], str]:
        """The kernels that the runtime really made, and what they were read from.

        Raises UnreadableKernels where they cannot be told; the receipt is then `unverified`.
        """
        ...


TimedRun = list[tuple[Kernel, float]]
"""One profiled inference: each kernel with its microseconds, in execution order."""


@runtime_checkable
class CanProfile(Protocol):
    """A target whose runtime times its own kernels."""

    def profile(
        self, engine: Path, threads: int, batch: Array, budget_s: float
    ) -> tuple[list[TimedRun], str]:
        """Inferences on `batch` in a session made for it, and what times them.

        Two to warm up are left out; three at least, then as many as `budget_s` holds.

        Raises UnreadableKernels where the profile does not list the engine's kernels.
        """
        ...


class UnreadableKernels(Exception):  # noqa: N818 - not an error of the request: it becomes a verdict
    """The runtime's own account of its kernels is missing or in an unknown form."""


# name -> (module, class); a name may take a variant after a colon (tensorrt-rtx:sm89)
TARGETS: dict[str, tuple[str, str]] = {
    "openvino": ("exporter.targets.openvino", "OpenVino"),
    "ort-cpu": ("exporter.targets.ort.cpu", "OrtCpu"),
    "ort-cuda": ("exporter.targets.ort.cuda", "OrtCuda"),
    "ort-tensorrt": ("exporter.targets.ort.tensorrt", "OrtTensorRt"),
    "tensorrt": ("exporter.targets.tensorrt.full", "TensorRt"),
    "tensorrt-rtx": ("exporter.targets.tensorrt.rtx", "TensorRtRtx"),
}


def get_target(text: str) -> Target:
    """The target for a string as typed: "ort-cpu", "tensorrt-rtx:sm89".

    Raises:
        UsageError: no such target, or the target has no such variant.
        MissingDependencyError: its library is not installed.
    """
    name, _, variant = text.partition(":")
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS)
    if not re.fullmatch(r"[a-z0-9]*", variant):
        raise UsageError(f"target {text!r}: a variant is letters and digits, as in {name}:sm89")
    module, cls = TARGETS[name]
    factory = getattr(importlib.import_module(module), cls)
    target: Target = factory(variant)
    return target


def folder_name(target: str) -> str:
    """The target's folder under `engines/`: a colon is not portable in file names."""
    return target.replace(":", "-")
