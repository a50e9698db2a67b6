"""Which GPUs compute in a precision, and the form of graph in which TensorRT takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exporter.artifact import Dialect, Precision
from exporter.errors import UsageError

SINCE: Final[Mapping[Precision, str]] = {Precision.BF16: "8.0", Precision.FP8: "8.9"}
"""The first compute capability with tensor cores of a precision that not all GPUs have."""


DIALECTS: Final[Mapping[Precision, Dialect]] = {
    Precision.INT8: Dialect.S8_SYMMETRIC,
    Precision.FP8: Dialect.E4M3_SYMMETRIC,
}
"""The form in which TensorRT takes what is quantized; any other precision is plain."""


def check_arithmetic(precision: Precision, capability: str | None, gpu: str) -> None:
    """Raises UsageError where a GPU ("this GPU", "sm75") has no arithmetic of a precision.

    Of a GPU that does not tell its compute capability ("8.9") nothing is known.
    """
    first = SINCE.get(precision)
    if first is None or capability is None or _number(capability) >= _number(first):
        return
    raise UsageError(
        f"{gpu} (compute capability {capability}) has no {precision.upper()} arithmetic, which "
        f"came with {first}; ask for fp16"
    )


def _number(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))
