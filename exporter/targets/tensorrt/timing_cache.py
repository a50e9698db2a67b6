"""Kernel times that TensorRT measured, kept from build to build."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from exporter import host
from exporter.disk.writing import write_whole
from exporter.targets.tensorrt.settings import TensorRtSettings

TIMES: Final = "timing.cache"
"""The file in a request's folder that the builder reads and writes."""


def timing_cache(settings: TensorRtSettings, here: host.Host) -> Path | None:
    """The file of kernel times that were measured under the same conditions as this build's.

    None where there is no folder to keep it in.

    Times of another GPU, driver or library are not comparable, and TensorRT checks only a part of
    that itself, so the name holds a digest of all of it and of the flags that choose kernels.
    """
    conditions = {
        "tensorrt": here.versions.get("tensorrt"),
        "gpu": here.gpu,
        "driver": here.driver,
        "tf32": settings.tf32,
        "optimization_level": settings.optimization_level,
        "hardware_compatibility": settings.hardware_compatibility,
        "version_compatible": settings.version_compatible,
        "strip_weights": settings.strip_weights,
    }
    digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:16]
    asked = settings.timing_cache
    folder = host.cache_folder("timing") if asked is None else Path(asked)
    return None if folder is None else folder / f"tensorrt-{digest}.cache"


def fetch_times(kept: Path | None, times: Path, report: Callable[[str], None]) -> None:
    """Copies a kept timing cache to `times`, where the builder reads it; none is no error."""
    try:
        if kept is not None and kept.exists():
            shutil.copyfile(kept, times)
    except OSError as error:
        times.unlink(missing_ok=True)
        report(f"kernels are measured again: {kept} cannot be read ({error.strerror})")


def keep_times(times: Path, kept: Path | None, report: Callable[[str], None]) -> None:
    """Keeps the timing cache that the builder wrote for the next build, if that can be."""
    try:
        if kept is not None and times.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, times.read_bytes())
    except OSError as error:
        report(f"measured kernel times are not kept: {kept} cannot be written ({error.strerror})")
