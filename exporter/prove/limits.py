"""How far from the reference an engine may be: the limits of the parity certificate."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from exporter.artifact import Precision

_ERRORS: Final[Mapping[Precision, Mapping[str, float]]] = MappingProxyType(
    {
        Precision.FP32: {"rel_l2_float64": 2e-6, "rel_l2": 4e-6, "batch_max_abs": 2e-5},
        Precision.FP16: {"rel_l2": 5e-3, "batch_max_abs": 2e-2},
        Precision.BF16: {"rel_l2": 3e-2, "batch_max_abs": 0.1},
        Precision.INT8: {"sqnr_db": 20.0, "batch_max_abs": 0.2},
        Precision.FP8: {"sqnr_db": 15.0, "batch_max_abs": 0.3},
    }
)
_ANSWERS: Final[Mapping[Precision, Mapping[str, float]]] = MappingProxyType(
    {
        Precision.FP32: {"top1_agreement": 0.99, "top1_drop": 0.001},
        Precision.FP16: {"top1_agreement": 0.99, "top1_drop": 0.001},
        Precision.BF16: {"top1_agreement": 0.95, "top1_drop": 0.01},
        Precision.INT8: {"top1_agreement": 0.95, "top1_drop": 0.01},
        Precision.FP8: {"top1_agreement": 0.95, "top1_drop": 0.01},
    }
)
LIMITS: Final[Mapping[tuple[Precision, bool], Mapping[str, float]]] = MappingProxyType(
    {
        (precision, trained): {
            **_ERRORS[precision.base],
            **(_ANSWERS[precision.base] if trained else {}),
        }
        for precision in Precision
        for trained in (False, True)
    }
)
"""By precision and whether the weights are trained: answers mean nothing on random ones, whose
logits are all alike.

An upper limit for an error, a lower one for what is in AT_LEAST. `batch_max_abs`, the difference
between an input's answers alone and in a batch, is in parts of the reference's largest output.
`top1_drop` is the accuracy that may be lost where the inputs have labels, `top1_agreement` the
share of the reference's answers that must be kept where they have none. Either is missed only where
the data show it: where the exact 95 % bound of the figure (`bounds.py`) is beyond the limit. INT8
or BF16 that changes a few answers in a hundred loses about as many right ones as it gains.
"""
AT_LEAST: Final = frozenset({"sqnr_db", "top1_agreement"})
OF_ANSWERS: Final = frozenset({"top1_agreement", "top1_drop"})

OWN_ERRORS: Final[Mapping[str, float]] = MappingProxyType(
    {"rel_l2_float64": 3.0, "rel_l2": 6.0, "batch_max_abs": 6.0}
)
"""How many times the reference's own float32 error an engine's figure may be, where that is more
than the limit above: a network that cancels large numbers loses digits in whatever order it is
summed. Twice as much between two float32 answers as between one and float64, since both err."""
OWN_ERROR_COUNTED: Final = 1e-3
"""The largest relative error of a reference that widens a limit: past it float32 is not enough for
the network, and nothing can be certified against it."""


def widened(limits: Mapping[str, float], own_error: float) -> dict[str, float]:
    """The limits against a reference whose own error, relative, is known (0: not known)."""
    counted = min(own_error, OWN_ERROR_COUNTED)
    return {key: max(limit, OWN_ERRORS.get(key, 0.0) * counted) for key, limit in limits.items()}
