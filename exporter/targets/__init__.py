"""The targets: what builds, runs and reads back engines, each in a file, imported on first use.

A target says what the runtime did (`kernels`); `prove/receipt.py` alone counts kernels. Outside
this package nothing names a target: whatever differs between them is asked of `Target`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from exporter import host
from exporter.artifact import Skipped
from exporter.errors import UsageError, unknown_name
from exporter.targets.cause import Cause
from exporter.targets.diagnosis import TargetDiagnosis
from exporter.targets.target import (
    COPY_TOLERANCE,
    Array,
    BuildOptions,
    BuildResult,
    CanProfile,
    KernelTraffic,
    MachineKind,
    Mark,
    Prediction,
    RunsOnDevice,
    ServerConfig,
    Session,
    Target,
    TellsTraffic,
    TimedRun,
    UnreadableKernels,
)

__all__ = [
    "COPY_TOLERANCE",
    "TARGETS",
    "Array",
    "BuildOptions",
    "BuildResult",
    "CanProfile",
    "Cause",
    "KernelTraffic",
    "MachineKind",
    "Mark",
    "Prediction",
    "RunsOnDevice",
    "ServerConfig",
    "Session",
    "Target",
    "TargetDiagnosis",
    "TellsTraffic",
    "TimedRun",
    "UnreadableKernels",
    "device_of",
    "folder_name",
    "get_target",
    "settings_of",
    "target_class",
    "why_not_here",
]

# name -> (module, class); a name may take a variant after a colon (tensorrt-rtx:sm89). In this
# order the default engines are built and listed, and the doctor tells what is here.
TARGETS: dict[str, tuple[str, str]] = {
    "ort-cpu": ("exporter.targets.ort.cpu", "OrtCpu"),
    "openvino": ("exporter.targets.openvino.cpu", "OpenVino"),
    "tensorrt-rtx": ("exporter.targets.tensorrt.rtx", "TensorRtRtx"),
    "tensorrt": ("exporter.targets.tensorrt.full", "TensorRt"),
    "ort-cuda": ("exporter.targets.ort.cuda", "OrtCuda"),
    "ort-tensorrt": ("exporter.targets.ort.tensorrt", "OrtTensorRt"),
}


def target_class(text: str) -> type[Target]:
    """The class of a target as typed: what it says of itself without its library.

    Raises:
        UsageError: no such target.
    """
    family = text.partition(":")[0]
    if family not in TARGETS:
        raise unknown_name("target", family, TARGETS)
    module, name = TARGETS[family]
    found: type[Target] = getattr(importlib.import_module(module), name)
    return found


def get_target(text: str) -> Target:
    """The target for a string as typed: "ort-cpu", "tensorrt-rtx:sm89".

    Raises:
        UsageError: no such target, or the target has no such variant.
        MissingDependencyError: its library is not installed.
    """
    family, _, variant = text.partition(":")
    cls = target_class(text)
    if not re.fullmatch(r"[a-z0-9]*", variant):
        raise UsageError(f"target {text!r}: a variant is letters and digits, as in {family}:sm89")
    return cls(variant)


def device_of(text: str) -> MachineKind | None:
    """What a target's engines compute on; None for a target of another version."""
    try:
        return target_class(text).runs_on
    except UsageError:
        return None


def why_not_here(text: str, requires: Mapping[str, Any] = MappingProxyType({})) -> Skipped | None:
    """None where this machine runs a target's engines; else why it does not.

    The reason may be a library, a device or a CPU feature that is missing (those that the record of
    one engine `requires`), or that a build of another version has a target which there is not here.
    """
    try:
        absent = get_target(text).runs_here()
    except UsageError as error:
        return Skipped(str(error))
    flags = host.cpu_flags()
    lacking = [flag for flag in requires.get("cpu_flags", ()) if flags and flag not in flags]
    if absent is None and lacking:
        return Skipped(f"built, not run here: this CPU lacks {', '.join(lacking)}")
    return absent


def settings_of(
    target: Target, settings: Mapping[str, Mapping[str, str]], profile: str | None
) -> dict[str, str]:
    """What one target's build is asked for: its own of `settings` (family -> key -> value).

    `profile` is MIN:OPT:MAX for every target that has profiles and no setting of its own.
    """
    own = dict(settings.get(target.family, {}))
    if profile is not None and target.has_profiles:
        own.setdefault("profile", profile)
    return own


def folder_name(target: str) -> str:
    """The target's folder under `engines/`: a colon is not portable in file names."""
    return target.replace(":", "-")
