"""What was asked for, and which engines that means on this machine."""

from __future__ import annotations

from collections.abc import Mapping

from exporter import host
from exporter.artifact import CalibrationMethod, Correction, Precision
from exporter.builds.request import ExportRequest
from exporter.errors import UsageError, unknown_name
from exporter.graph.lower import LEAVE_FLOATS
from exporter.targets import Target, get_target

# What is built where nothing is asked for: a literal list for each kind of machine, not a product.
DEFAULT_PAIRS: Mapping[str, tuple[tuple[str, Precision], ...]] = {
    "cpu": (
        ("ort-cpu", Precision.FP32),
        ("ort-cpu", Precision.FP16),
        ("ort-cpu", Precision.INT8),
        ("ort-cpu:amx", Precision.INT8),
        ("openvino", Precision.FP32),
        ("openvino", Precision.INT8),
        ("tensorrt-rtx", Precision.FP16),
    ),
    "gpu": (
        ("tensorrt", Precision.FP32),
        ("tensorrt", Precision.FP16),
        ("tensorrt", Precision.INT8),
        ("ort-cuda", Precision.FP32),
        ("ort-cuda", Precision.FP16),
        ("ort-tensorrt", Precision.FP16),
    ),
}

NEEDED_FLAG: Mapping[str, str] = {"ort-cpu:amx": host.AMX_FLAG}
"""The CPU feature without which a default target is left out."""
HAVE_PROFILES = ("tensorrt", "tensorrt-rtx", "ort-tensorrt")


def settings_of(request: ExportRequest, target: Target) -> dict[str, str]:
    """What a target's build is asked for beyond graph and precision."""
    family = target.name.partition(":")[0]
    settings = dict(request.settings.get(family, {}))
    if request.profile is not None and family in HAVE_PROFILES:
        settings.setdefault("profile", request.profile)
    return settings


def plan(request: ExportRequest) -> tuple[tuple[Target, Precision], ...]:
    """The engines to build. With no target and no precision: the default list of this machine."""
    kind = "gpu" if host.describe_host().gpu else "cpu"
    flags = host.cpu_flags()
    defaults = [
        (target, precision)
        for target, precision in DEFAULT_PAIRS[kind]
        if NEEDED_FLAG.get(target, "") in flags | {""}
    ]
    if not request.targets:
        names = [
            (target, precision)
            for target, precision in defaults
            if not request.precisions or precision in request.precisions
        ]
    else:
        precisions = request.precisions or tuple(Precision)
        names = [(target, precision) for target in request.targets for precision in precisions]
    if request.calibration_method not in list(CalibrationMethod):
        raise unknown_name("calibration method", request.calibration_method, CalibrationMethod)
    if request.correction not in list(Correction):
        raise unknown_name("correction", request.correction, Correction)
    unused = set(request.settings) - {name.partition(":")[0] for name, _ in names}
    if unused:
        raise UsageError(
            f"--setting names {', '.join(sorted(unused))}, which is not built; add it to --target"
        )
    resolved = {name: get_target(name) for name, _ in names}
    pairs = []
    for name, precision in names:
        target = resolved[name]
        try:
            target.dialect(precision)
        except UsageError:
            # Asked for by name it is an error; as part of "all precisions" it is left out.
            if request.precisions:
                raise
            continue
        pairs.append((target, precision))
    if request.between is not Precision.FP32 and not any(
        target.dialect(precision) in LEAVE_FLOATS
        for target, precision in pairs
        if precision is Precision.INT8
    ):
        raise UsageError(
            f"--between {request.between} concerns INT8 for TensorRT alone, which is not built; "
            "add such a --target or leave it out"
        )
    if not pairs:
        asked = ", ".join(request.precisions)
        raise UsageError(f"nothing to build for {asked}; name a --target that has this precision")
    return tuple(pairs)
