"""The receipt of a built engine, from what its target says that the runtime made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exporter.artifact import Precision
from exporter.errors import BuildError
from exporter.passes.blocks import GraphFacts
from exporter.prove.certificate import Receipt
from exporter.prove.receipt import make_receipt, unverified_receipt
from exporter.targets import Target, UnreadableKernels


def receipt_of(
    facts: GraphFacts, target: Target, precision: Precision, path: Path, kept: tuple[str, ...]
) -> Receipt:
    """What the runtime made of the graph; `unverified` with the reason where it does not say."""
    facts = replace(facts, activations=target.activations(precision.base))
    expected = target.expected(precision.base)
    try:
        kernels, source = target.kernels(path)
    except (UnreadableKernels, BuildError) as error:
        return unverified_receipt(str(error), graph_facts=facts, expected=expected)
    return make_receipt(
        kernels,
        source,
        graph_facts=facts,
        precision=precision,
        dialect=target.dialect(precision.base),
        expected=expected,
        kept=kept,
    )
