"""Why an engine is not as fast or as exact as its target could make it.

One cause, one file. Each looks at the kernels that the runtime made, and at the graph only to say
why they are so (docs/decisions/0054): `find(case, free)` claims some of the kernels that are still
`free`, or none. The more particular a cause the earlier it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Final

from exporter.artifact import Operation
from exporter.causes import (
    batchnorm,
    bias_scale,
    cast,
    codes_not_taken,
    float_layer,
    kept,
    no_8_bit_form,
    no_arithmetic,
    per_tensor_weights,
    run_time_ranges,
    signed_activations,
    small_groups,
    unexplained,
    unquantized_sum,
)
from exporter.causes.case import Case
from exporter.causes.finding import Claim, Finding
from exporter.prove.kernel_graph import NO_ARITHMETIC
from exporter.targets import Cause

Find = Callable[[Case, Collection[int]], Claim | None]

CAUSES: Final[Mapping[Cause, Find]] = MappingProxyType(
    {
        Cause.KEPT: kept.find,
        Cause.CODES_NOT_TAKEN: codes_not_taken.find,
        Cause.NO_ARITHMETIC: no_arithmetic.find,
        Cause.RUN_TIME_RANGES: run_time_ranges.find,
        Cause.CAST: cast.find,
        Cause.BATCHNORM: batchnorm.find,
        Cause.FLOAT_LAYER: float_layer.find,
        Cause.UNQUANTIZED_SUM: unquantized_sum.find,
        Cause.SIGNED_ACTIVATIONS: signed_activations.find,
        Cause.BIAS_SCALE: bias_scale.find,
        Cause.NO_8_BIT_FORM: no_8_bit_form.find,
        Cause.SMALL_GROUPS: small_groups.find,
        Cause.PER_TENSOR_WEIGHTS: per_tensor_weights.find,
        Cause.UNEXPLAINED: unexplained.find,
    }
)


_RIDES_ALONG: Final = NO_ARITHMETIC | {Operation.RELU, Operation.OTHER}
"""What a kernel does that is there, or in float, because of those beside it."""


def find_causes(case: Case, known: Collection[Cause], command: str) -> tuple[Finding, ...]:
    """The causes that a target knows, the most milliseconds to win first, then decibels.

    What leaves no engine at all comes before. Where nothing is timed, the most kernels come first;
    what no build mends comes last. `command` wins all others at once: it is the build of the
    float32 network.
    """
    free = set(case.suspects)
    claims: dict[Cause, Claim] = {}
    for cause, find in CAUSES.items():
        claim = find(case, free) if cause in known else None
        if claim is not None:
            claims[cause] = claim
            free -= claim.kernels | _around(case, claim.kernels, free)
    known_remedy = [claim.built_away for claim in claims.values()]
    findings = [_finding(case, cause, claim, command) for cause, claim in claims.items()]
    ranked = sorted(zip(known_remedy, findings, strict=True), key=lambda one: _rank(*one))
    return tuple(finding for _, finding in ranked)


def _around(case: Case, seeds: Collection[int], among: Collection[int]) -> set[int]:
    """The kernels on both sides of the seeds that are there, or in float, because of them."""
    found: set[int] = set()
    waiting = list(seeds)
    while waiting:
        index = waiting.pop()
        for near in (*case.flow.after(index), *case.flow.before(index)):
            if near in among and near not in found and _rides_along(case, near):
                found.add(near)
                waiting.append(near)
    return found


def _rides_along(case: Case, index: int) -> bool:
    return _RIDES_ALONG.issuperset(case.kernels[index].does)


def _finding(case: Case, cause: Cause, claim: Claim, command: str) -> Finding:
    around = _around(case, claim.kernels, range(len(case.kernels))) if claim.kernels else set()
    whole = sorted(claim.kernels | (around & case.suspects))
    time_us = case.time_us(whole) if claim.decibels is None else None
    return Finding(
        cause=cause,
        what=claim.what,
        remedy=claim.remedy,
        command=command if claim.built_away else "",
        kernels=tuple(case.kernels[index].name for index in whole),
        milliseconds=None if time_us is None else time_us / 1000,
        decibels=claim.decibels,
    )


def _rank(has_remedy: bool, finding: Finding) -> tuple[bool, bool, float, float, float]:
    return (
        not has_remedy,
        not finding.stops,
        -(finding.milliseconds or 0.0),
        -float(len(finding.kernels)),
        -(finding.decibels or 0.0),
    )
