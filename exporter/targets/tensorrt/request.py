"""What the compiler asks the process for that builds a plan, and what that refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PLAN, LAYERS, ENGINE = "plan", "layers.txt", "engine.json"
"""Files in the request's folder: the plan, and what the builder or the inspector says of it."""


@dataclass(frozen=True)
class BuildRequest:
    """What one plan is built from."""

    library: str
    """"tensorrt_rtx" or "tensorrt", the Python module's name."""
    onnx: str
    folder: str
    """Where PLAN and the lists are written; the caller's, on the disk of the final file."""
    built_for: str
    """"sm89" or "portable" (TensorRT-RTX); the GPU's compute capability (TensorRT)."""
    profiles: tuple[tuple[int, int, int], ...]
    """Batch sizes (min, opt, max); used where the graph's batch is dynamic."""
    tf32: bool = False
    memory_mb: int | None = None
    optimization_level: int | None = None
    hardware_compatibility: str | None = None
    version_compatible: bool = False
    strip_weights: bool = False
    timing_cache: str | None = None
    """A file in `folder`; read if it is there, and written."""


class RefusedError(Exception):
    """The builder's own reason for not building, in one line."""


Tell = Callable[[dict[str, Any]], None]
