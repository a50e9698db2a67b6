"""What may be done to a quantized graph with the calibration data."""

from __future__ import annotations

from enum import StrEnum


class Correction(StrEnum):
    """What is corrected in an INT8 graph, with the calibration data."""

    ALL = "all"
    """The weights are rounded again, then the biases take back the mean error that is left."""
    BIASES = "biases"
    NONE = "none"
