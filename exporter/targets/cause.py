"""What may keep an engine from being as fast or as exact as its target could make it.

A target says which of these it knows (`Target.causes`); how each is found in a built engine is told
in `exporter/causes/`, a file for each.
"""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """The kinds of reasons, in the words of a report."""

    KEPT = "kept in float as asked"
    CODES_NOT_TAKEN = "unsigned or asymmetric codes"
    NO_ARITHMETIC = "no arithmetic in this type"
    RUN_TIME_RANGES = "quantized while it runs"
    CAST = "cast in the middle"
    BATCHNORM = "BatchNormalization not folded"
    SIGNED_ACTIVATIONS = "signed or symmetric activations"
    UNQUANTIZED_SUM = "Q/DQ missing at a residual sum"
    FLOAT_LAYER = "layer left in float"
    BIAS_SCALE = "bias that blocks fusion"
    SMALL_GROUPS = "grouped convolutions without the fast path"
    PER_TENSOR_WEIGHTS = "weights quantized per tensor"
    NO_8_BIT_FORM = "operator without an 8-bit form"
    UNEXPLAINED = "left over by the runtime"


EVERYWHERE = frozenset(
    {
        Cause.KEPT, Cause.NO_ARITHMETIC, Cause.RUN_TIME_RANGES, Cause.CAST, Cause.BATCHNORM,
        Cause.UNQUANTIZED_SUM, Cause.FLOAT_LAYER, Cause.PER_TENSOR_WEIGHTS, Cause.NO_8_BIT_FORM,
        Cause.UNEXPLAINED,
    }
)  # fmt: skip
"""What every runtime that fuses knows."""
