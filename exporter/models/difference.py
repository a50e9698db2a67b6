"""How far two answers are from each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def relative_difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """||found - expected|| / ||expected||; infinite where they have other shapes or other NaNs."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True):
        return float("inf")
    off = float(np.linalg.norm(found[finite] - expected[finite]))
    norm = float(np.linalg.norm(expected[finite]))
    if np.isnan(off):
        return float("inf")
    return off / norm if norm else float("inf") if off else 0.0
