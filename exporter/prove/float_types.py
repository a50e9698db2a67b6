"""Whether the layers that a `mixed` engine keeps in float compute in the type that was chosen.

That no other layer is in float, and none of these in 8 bits, `receipt.py` has checked before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from exporter.artifact import ElementType, Kernel, Operation, Verdict
from exporter.passes.values import is_inside
from exporter.prove.certificate import Receipt
from exporter.prove.kernel_graph import own_labels

_LAYERS: Final = frozenset({Operation.CONV, Operation.GEMM})


def with_float_types(
    receipt: Receipt, kernels: Sequence[Kernel], types: Mapping[str, ElementType]
) -> Receipt:
    """The receipt, lowered to `partial` where a kept convolution or Gemm has another type.

    `types` says by the name of a node or module what it was to compute in; of two that hold a
    kernel the first counts.
    """
    wrong = [
        f"{kernel.name} computes in {kernel.dtype} and was to be kept in {wanted}"
        for kernel in kernels
        if not _LAYERS.isdisjoint(kernel.does)
        for wanted in (_wanted(kernel, types),)
        if wanted not in (None, kernel.dtype)
    ]
    if not wrong:
        return receipt
    verdict = Verdict.PARTIAL if receipt.verdict is Verdict.FUSED else receipt.verdict
    return replace(
        receipt, verdict=verdict, reason="; ".join(filter(None, [receipt.reason, *wrong]))
    )


def _wanted(kernel: Kernel, types: Mapping[str, ElementType]) -> ElementType | None:
    labels = own_labels(kernel)
    return next(
        (
            wanted
            for name, wanted in types.items()
            if any(is_inside(label, name) for label in labels)
        ),
        None,
    )
