"""The ranges that calibration measured, kept in a file from one export to the next."""

from __future__ import annotations

import json
import os
from pathlib import Path

from exporter.artifact import CalibrationMethod, Ranges
from exporter.errors import BuildError


def write_ranges(ranges: Ranges, path: Path) -> None:
    """Writes the ranges as JSON; numbers come back exactly. The file appears whole or not at all.

    Raises:
        BuildError: the file cannot be written.
    """
    described = {
        "method": ranges.method,
        "samples": ranges.samples,
        "data_sha256": ranges.data_sha256,
        "tensors": {name: list(bounds) for name, bounds in ranges.tensors.items()},
        "symmetric": dict(ranges.symmetric),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(described, indent=1, allow_nan=False), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BuildError(
            f"{path} cannot be written: {error.strerror}; choose a cache folder that can be"
        ) from error


def read_ranges(path: Path) -> Ranges | None:
    """The ranges that `write_ranges` wrote; None where there is no file.

    Raises:
        BuildError: the file is damaged.
    """
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        tensors = {
            name: (float(minimum), float(maximum))
            for name, (minimum, maximum) in described["tensors"].items()
        }
        return Ranges(
            method=CalibrationMethod(described["method"]),
            samples=described["samples"],
            data_sha256=described["data_sha256"],
            tensors=tensors,
            symmetric={name: float(bound) for name, bound in described["symmetric"].items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"{path} holds no calibration ranges ({error}); delete it") from error
