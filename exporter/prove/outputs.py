"""One certificate from those of several outputs: all of them must pass, and the worst is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from exporter.artifact import ModelSpec
from exporter.prove.certificate import OutputParity, Parity
from exporter.runtime.outputs import Output


def parts_of(spec: ModelSpec) -> tuple[Output, ...]:
    """The outputs, side by side in a row of answers; empty: the scores of classes alone."""
    if not spec.other_outputs and spec.scores is not None:
        return ()
    return tuple(
        Output(output.name, tuple(int(size) for size in output.shape[1:]))
        for output in spec.outputs
    )


def combined(found: Mapping[str, Parity], scores: str | None) -> Parity:
    """The certificate of an engine from one an output, by name; `scores` has the classes."""
    name = max(found, key=lambda output: _strain(found[output]))
    classes = found[scores or name]
    worst = found[name]
    return replace(
        worst,
        top1_agreement=classes.top1_agreement,
        flips=classes.flips,
        near_ties=classes.near_ties,
        agreement_at_most=classes.agreement_at_most,
        drop_at_least=classes.drop_at_least,
        flipped=classes.flipped,
        median_margin=classes.median_margin,
        limits={**classes.limits, **worst.limits},
        passed=all(parity.passed for parity in found.values()),
        failures=tuple(
            f"output {output}: {failure}"
            for output, parity in found.items()
            for failure in parity.failures
        ),
        output=name,
        outputs=tuple(_listed(output, parity) for output, parity in found.items()),
    )


def _strain(parity: Parity) -> tuple[bool, float]:
    """How near an output comes to the limit of its error, or how far beyond it is."""
    limits = parity.limits
    most = limits["rel_l2"] if "rel_l2" in limits else 10 ** (-limits["sqnr_db"] / 20)
    ratio = parity.rel_l2 / most
    return not parity.passed, math.inf if math.isnan(ratio) else ratio


def _listed(name: str, parity: Parity) -> OutputParity:
    return OutputParity(
        name=name,
        passed=parity.passed,
        max_abs=parity.max_abs,
        rel_l2=parity.rel_l2,
        cosine=parity.cosine,
        sqnr_db=parity.sqnr_db,
        batch_max_abs=parity.batch_max_abs,
        top1_agreement=parity.top1_agreement,
        rel_l2_float64=parity.rel_l2_float64,
        limits=parity.limits,
    )
