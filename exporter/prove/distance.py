"""How far answers are from those that they are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def relative_l2(error: Array, reference: Array) -> float:
    """||error|| / ||reference||, over everything."""
    norm, off = float(np.linalg.norm(reference)), float(np.linalg.norm(error))
    if not norm:
        return float("inf") if off else 0.0
    return off / norm


def sqnr_db(error: Array, reference: Array) -> float:
    """20 log10(||reference|| / ||error||); 300 dB stands for no error at all."""
    ratio = relative_l2(error, reference)
    return 300.0 if ratio < 1e-15 else -20.0 * float(np.log10(ratio))


def cosine(outputs: Floats, expected: Floats) -> float:
    """Of the angle between all outputs and all that were expected."""
    norms = float(np.linalg.norm(outputs) * np.linalg.norm(expected))
    return float((outputs * expected).sum()) / (norms or 1.0)
