"""Where a TensorRT plan loads, and the command that builds it again somewhere else.

A plan loads with the version of TensorRT that built it, the build number included ("expecting
library version 8.6.1.2 got 8.6.1.6, please rebuild"). A version-compatible one loads in later
versions of the same major one as well, and one of 10 in 11: no other pair of major versions.

Source: https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/getting-started/support-matrix.html
("Engine Portability"), and triton-inference-server/server#5975 for the build number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from exporter.targets.tensorrt.settings import TensorRtSettings

_INTO_LATER_MAJOR: Final[Mapping[int, int]] = {10: 11}

ONNX_FILE, PLAN_FILE, TIMES_FILE = "onnx/model.onnx", "1/model.plan", "timing.cache"
"""Where `rebuild_line` reads and writes, in the folder of a model in Triton's repository."""


def why_not_loaded(built: str, found: str, *, version_compatible: bool) -> str | None:
    """Why TensorRT `found` does not load a plan of TensorRT `built`; None: nothing says so."""
    ours, theirs = _numbers(built), _numbers(found)
    known = min(len(ours), len(theirs))
    if ours[:known] == theirs[:known]:
        return None
    if not version_compatible:
        return (
            f"TensorRT {built} built it, and a plan loads in that version alone; build it there, "
            "or with --setting tensorrt.version_compatible=on for later ones"
        )
    majors = {ours[0], _INTO_LATER_MAJOR.get(ours[0], ours[0])}
    if theirs > ours and theirs[0] in majors:
        return None
    return (
        f"TensorRT {built} built it, and a version-compatible plan loads in later versions of "
        f"TensorRT {' and '.join(map(str, sorted(majors)))} alone"
    )


def rebuild_line(
    settings: TensorRtSettings,
    shapes: Mapping[str, Sequence[int]],
    profiles: Sequence[tuple[int, int, int]],
    version: str,
) -> str:
    """The trtexec command that builds the same plan from its ONNX file.

    `shapes` are those of the network's inputs, -1 where they are dynamic. Kernel times are kept, so
    that a second build is quick. TensorRT 11 types every network by its graph; 10 is asked to.
    """
    line = f"trtexec --onnx={ONNX_FILE} --saveEngine={PLAN_FILE} --timingCacheFile={TIMES_FILE}"
    dynamic = {name: shape for name, shape in shapes.items() if shape[0] < 0}
    for index, sizes in enumerate(profiles if dynamic else ()):
        line += f" --profile={index}" if len(profiles) > 1 else ""
        for word, batch in zip(("min", "opt", "max"), sizes, strict=True):
            inputs = ",".join(
                f"{name}:{'x'.join(map(str, (batch, *shape[1:])))}"
                for name, shape in dynamic.items()
            )
            line += f" --{word}Shapes={inputs}"
    if _numbers(version)[0] < 11:
        line += " --stronglyTyped"
    if not settings.tf32:
        line += " --noTF32"
    if settings.optimization_level is not None:
        line += f" --builderOptimizationLevel={settings.optimization_level}"
    if settings.version_compatible:
        line += " --versionCompatible"
    if settings.hardware_compatibility is not None:
        line += f" --hardwareCompatibilityLevel={_LEVELS[settings.hardware_compatibility]}"
    return f"{line} --skipInference"


_LEVELS: Final[Mapping[str, str]] = {
    "ampere_plus": "ampere+",
    "same_compute_capability": "sameComputeCapability",
}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
