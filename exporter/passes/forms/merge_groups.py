"""Merge the small groups of an 8-bit grouped convolution, with zeros between them.

    Conv(x, W, group 32), W (128, 4, 3, 3)   =   Conv(x, W', group 4), W' (128, 32, 3, 3)

The products that are added are zero, so the result is equal bit for bit. ONNX Runtime's 8-bit
convolution multiplies one small matrix a group: with 4 channels in a group most of the time goes
into the calls. At 32 channels a group the arithmetic has grown 8 times and the convolution is 3.5
times as fast; with AMX, which makes arithmetic cheaper still, 64 are (docs/decisions/0007, with the
tables from which the numbers come). Must not fire: one channel a group, for which runtimes have
kernels of their own.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.passes.qdq.nodes import quantized_weight
from exporter.passes.values import is_op, replace_constant

CHANNELS: Final = 32
"""The most input channels that a merged group may have."""
CHANNELS_WITH_AMX: Final = 64
"""The same where its product runs on AMX, as that of groups always does."""


def merge_groups(graph: ir.Model) -> PassReport:
    """Rewrites every 8-bit convolution whose groups can be merged."""
    return _merge_groups(graph, "merge_groups", CHANNELS)


def merge_groups_for_amx(graph: ir.Model) -> PassReport:
    """The same, for a CPU with AMX."""
    return _merge_groups(graph, "merge_groups_for_amx", CHANNELS_WITH_AMX)


def _merge_groups(graph: ir.Model, name: str, most: int) -> PassReport:
    fired = 0
    refused: list[tuple[str, str]] = []
    for conv in [node for node in graph.graph if is_op(node, "Conv")]:
        groups = conv.attributes.get_int("group", 1)
        if groups == 1:
            continue
        weight = quantized_weight(conv)
        if weight is None:
            refused.append((str(conv.name), "its weight is no quantized constant of its own"))
            continue
        dequantize, codes = weight
        channels = codes.shape[1]
        merged = _merged(groups, channels, most)
        if merged == 1:
            refused.append((str(conv.name), f"{groups} groups of {channels} channels"))
            continue
        wide = _widen(codes, groups, merged)
        replace_constant(graph.graph, dequantize, 0, wide)
        dequantize.outputs[0].shape = ir.Shape(wide.shape)
        conv.attributes["group"] = ir.AttrInt64("group", groups // merged)
        fired += 1
    return PassReport(name, fired, tuple(refused))


def _merged(groups: int, channels: int, most: int) -> int:
    """How many groups become one."""
    if channels == 1:
        return 1
    counts = range(1, max(1, most // channels) + 1)
    return max(count for count in counts if groups % count == 0)


def _widen(codes: np.ndarray, groups: int, merged: int) -> np.ndarray:
    """(O, I, kH, kW) -> (O, merged * I, kH, kW): each group's codes at its own inputs."""
    outputs, channels = codes.shape[0] // groups, codes.shape[1]
    wide = np.zeros((codes.shape[0], merged * channels, *codes.shape[2:]), codes.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        first = group % merged * channels
        wide[rows, first : first + channels] = codes[rows]
    return wide
