"""How far from the reference an engine may be: the limits of the parity certificate."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from exporter.artifact import Precision

# An upper limit for an error, a lower one for sqnr_db and top1_agreement. Agreement means nothing
# on random weights: their logits are all alike.
LIMITS: Final[Mapping[tuple[Precision, bool], Mapping[str, float]]] = MappingProxyType(
    {
        (Precision.FP32, False): {"rel_l2_float64": 2e-6, "rel_l2": 4e-6},
        (Precision.FP32, True): {"rel_l2_float64": 2e-6, "rel_l2": 4e-6, "top1_agreement": 0.99},
        (Precision.FP16, False): {"rel_l2": 5e-3},
        (Precision.FP16, True): {"rel_l2": 5e-3, "top1_agreement": 0.99},
        (Precision.INT8, False): {"sqnr_db": 20.0},
        (Precision.INT8, True): {"sqnr_db": 20.0, "top1_agreement": 0.99},
    }
)
AT_LEAST: Final = frozenset({"sqnr_db", "top1_agreement"})
