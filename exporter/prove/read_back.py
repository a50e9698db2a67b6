"""The receipt of a built engine, from what its target says that the runtime made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from exporter.artifact import ElementType, Kernel, Precision
from exporter.errors import BuildError
from exporter.passes.blocks import GraphFacts
from exporter.prove.certificate import Receipt
from exporter.prove.float_types import with_float_types
from exporter.prove.receipt import make_receipt, unverified_receipt
from exporter.targets import Target, UnreadableKernels


@dataclass(frozen=True)
class ReadBack:
    """The kernels of an engine in execution order, and what they amount to."""

    kernels: tuple[Kernel, ...]
    receipt: Receipt


def receipt_of(
    facts: GraphFacts,
    target: Target,
    precision: Precision,
    path: Path,
    kept: tuple[str, ...],
    chosen: Mapping[str, Precision] = MappingProxyType({}),
) -> Receipt:
    """What the runtime made of the graph; `unverified` with the reason where it does not say.

    `kept` was to stay in float32, and each of `chosen`, which `mixed` engines have, in its type.
    """
    read = read_back(facts, target, precision, path, (*kept, *chosen))
    if precision is not Precision.MIXED:
        return read.receipt
    types = dict.fromkeys(kept, ElementType.FP32)
    types.update((name, ElementType(kind)) for name, kind in chosen.items() if name not in kept)
    return with_float_types(read.receipt, read.kernels, types)


def read_back(
    facts: GraphFacts, target: Target, precision: Precision, path: Path, kept: tuple[str, ...]
) -> ReadBack:
    """The same with the kernels; none where the runtime does not say. All of `kept` in float."""
    facts = replace(facts, activations=target.activations(precision.base))
    expected = target.expected(precision.base)
    try:
        kernels, source = target.kernels(path)
    except (UnreadableKernels, BuildError) as error:
        return ReadBack((), unverified_receipt(str(error), graph_facts=facts, expected=expected))
    receipt = make_receipt(
        kernels,
        source,
        graph_facts=facts,
        precision=precision,
        dialect=target.dialect(precision.base),
        expected=expected,
        kept=kept,
    )
    return ReadBack(kernels, receipt)
