"""The ranges that calibration measured, kept in a file from one export to the next.

A file that cannot be read or written is a note: the ranges are measured again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from itertools import chain
from pathlib import Path

from exporter.artifact import CalibrationMethod
from exporter.disk.writing import write_whole
from exporter.passes.qdq.ranges import Ranges
from exporter.progress import Progress


def write_ranges(ranges: Ranges, path: Path, progress: Progress) -> None:
    """Writes the ranges as JSON; numbers come back exactly."""
    described = {
        "method": ranges.method,
        "samples": ranges.samples,
        "data_sha256": ranges.data_sha256,
        "tensors": {name: list(bounds) for name, bounds in ranges.tensors.items()},
        "symmetric": dict(ranges.symmetric),
        "not_finite": dict(ranges.not_finite),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(described, indent=1, allow_nan=False))
    except OSError as error:
        progress.note(
            f"the calibration's ranges are not kept for the next export: {path.parent} cannot be "
            f"written ({error.strerror or error})"
        )


def read_ranges(path: Path, tensors: Collection[str], progress: Progress) -> Ranges | None:
    """The ranges of these tensors that `write_ranges` wrote; None where there are none to use."""
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        ranges = Ranges(
            method=CalibrationMethod(described["method"]),
            samples=int(described["samples"]),
            data_sha256=str(described["data_sha256"]),
            tensors={
                name: (float(minimum), float(maximum))
                for name, (minimum, maximum) in described["tensors"].items()
            },
            symmetric={name: float(bound) for name, bound in described["symmetric"].items()},
            not_finite={
                name: int(image) for name, image in described.get("not_finite", {}).items()
            },
        )
        measured = set(tensors) - ranges.not_finite.keys()
        if not ranges.tensors.keys() == ranges.symmetric.keys() == measured:
            raise ValueError("they are of other tensors")
        bounds = chain(ranges.symmetric.values(), *ranges.tensors.values())
        if not all(map(math.isfinite, bounds)):
            raise ValueError("they are not finite")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        progress.note(
            f"the ranges kept in {path} cannot be used ({error}); they are measured again"
        )
        return None
    return ranges
