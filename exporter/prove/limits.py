"""How far from the reference an engine may be: the limits of the parity certificate."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from exporter.artifact import Precision

LIMITS: Final[Mapping[tuple[Precision, bool], Mapping[str, float]]] = MappingProxyType(
    {
        (Precision.FP32, False): {"rel_l2_float64": 2e-6, "rel_l2": 4e-6, "batch_max_abs": 2e-5},
        (Precision.FP32, True): {
            "rel_l2_float64": 2e-6,
            "rel_l2": 4e-6,
            "top1_agreement": 0.99,
            "batch_max_abs": 2e-5,
        },
        (Precision.FP16, False): {"rel_l2": 5e-3, "batch_max_abs": 2e-2},
        (Precision.FP16, True): {"rel_l2": 5e-3, "top1_agreement": 0.99, "batch_max_abs": 2e-2},
        (Precision.INT8, False): {"sqnr_db": 20.0, "batch_max_abs": 0.2},
        (Precision.INT8, True): {"sqnr_db": 20.0, "top1_agreement": 0.99, "batch_max_abs": 0.2},
    }
)
"""By precision and whether the weights are trained: agreement means nothing on random ones, whose
logits are all alike.

An upper limit for an error, a lower one for what is in AT_LEAST. `batch_max_abs`, the difference
between an input's answers alone and in a batch, is in parts of the reference's largest output.
"""
AT_LEAST: Final = frozenset({"sqnr_db", "top1_agreement"})
