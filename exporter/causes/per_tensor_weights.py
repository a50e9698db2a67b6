"""One scale for all channels of a weight: the widest channel decides how coarse the others are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np

from exporter.causes.case import Case, counted, producer
from exporter.causes.finding import Claim
from exporter.passes.strip_quantization import dequantized_weight
from exporter.passes.values import constant, is_op

LEAST_DB: Final = 1.0
"""Channels so alike that less noise than this would go are no cause."""


def find(case: Case, free: Collection[int]) -> Claim | None:  # noqa: ARG001 - it costs no time
    """Convolutions whose weight has one scale, and the noise that one a channel would take away.

    Rounding to steps of s makes noise of power s²/12; the steps of each channel are those that its
    own largest weight asks for.
    """
    seen: list[str] = []
    noise = own = 0.0
    for name, node in case.nodes.items():
        pair = producer(node, 1) if is_op(node, "Conv") else None
        weight = dequantized_weight(node.inputs[1]) if is_op(pair, "DequantizeLinear") else None
        scale = constant(pair.inputs[1]) if pair is not None and weight is not None else None
        if weight is None or scale is None or scale.size > 1 or len(weight) == 1:
            continue
        seen.append(name)
        largest = np.abs(weight).reshape(len(weight), -1).max(1).astype(np.float64)
        energy = float(np.square(weight, dtype=np.float64).mean()) or 1.0
        noise += float(largest.max() ** 2) / energy
        own += float(np.square(largest).mean()) / energy
    won = 10 * np.log10(noise / own) if own else 0.0
    if won < LEAST_DB:
        return None
    return Claim(
        f"the weights of {len(seen)} of {case.facts.convs} convolutions have one scale for all "
        f"channels ({counted(seen)})",
        f"quantize weights per channel (quantize_static: per_channel=True): {won:.1f} dB less "
        "noise from their rounding, at the same speed",
        frozenset(),
        decibels=float(won),
    )
