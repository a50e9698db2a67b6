"""One engine under the glass: what its runtime made, where its time goes, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import onnx_ir as ir

from exporter.artifact import Precision, Skipped, Verdict
from exporter.causes import find_causes
from exporter.causes.case import Case
from exporter.causes.finding import Finding
from exporter.errors import BuildError
from exporter.measure.profile import BUDGET_S, Network, summarize
from exporter.measure.timing import Profile
from exporter.passes.blocks import GraphFacts
from exporter.prove.certificate import Receipt
from exporter.prove.read_back import read_back
from exporter.prove.receipt import unverified_receipt
from exporter.targets import CanProfile, Cause, Target, TimedRun, UnreadableKernels


@dataclass(frozen=True)
class Specimen:
    """An engine's file, and the graph that it was built from, named after its network."""

    engine: Path
    precision: Precision
    graph: ir.Model
    facts: GraphFacts
    kept: tuple[str, ...] = ()
    """Module paths that were to stay in higher precision."""
    command: str = ""
    """What builds the network anew, every cause mended."""


@dataclass(frozen=True)
class Examined:
    """What was seen of one engine."""

    receipt: Receipt
    profile: Profile | Skipped
    findings: tuple[Finding, ...]
    """The most to win first; empty: nothing to fix."""


def examine(target: Target, specimen: Specimen, network: Network, threads: int) -> Examined:
    """Reads an engine's kernels back, times them where the target can, and looks for causes.

    Raises:
        BuildError: the runtime does not load the engine.
    """
    precision = specimen.precision
    read = read_back(specimen.facts, target, precision, specimen.engine, specimen.kept)
    runs = _timed(target, specimen.engine, network, threads)
    profile: Profile | Skipped = runs if isinstance(runs, Skipped) else _summary(runs, network)
    case = Case(
        graph=specimen.graph,
        facts=replace(specimen.facts, activations=target.activations(precision)),
        precision=precision,
        dialect=target.dialect(precision),
        kernels=read.kernels,
        times_us={} if isinstance(runs, Skipped) else runs.times_us,
        kept=specimen.kept,
    )
    known = target.causes()
    if target.expected(precision) is not Verdict.FUSED:
        known -= {Cause.UNEXPLAINED}  # it is not known to do better
    return Examined(read.receipt, profile, find_causes(case, known, specimen.command))


def examine_refused(target: Target, specimen: Specimen, reason: str) -> Examined | None:
    """Why the runtime makes no engine of a graph; None: no cause that is known stops it."""
    precision = specimen.precision
    expected = target.expected(precision)
    receipt = unverified_receipt(reason, graph_facts=specimen.facts, expected=expected)
    case = Case(specimen.graph, specimen.facts, precision, target.dialect(precision), kernels=())
    findings = find_causes(case, target.causes(), specimen.command)
    if not any(finding.stops for finding in findings):
        return None
    return Examined(receipt, Skipped("no engine was built"), findings)


@dataclass(frozen=True)
class _Timed:
    runs: list[TimedRun]
    source: str
    threads: int

    @property
    def times_us(self) -> Mapping[str, float]:
        """The median of each kernel, by its name."""
        kernels = [kernel.name for kernel, _ in self.runs[0]]
        return {
            name: median(run[index][1] for run in self.runs) for index, name in enumerate(kernels)
        }


def _timed(target: Target, engine: Path, network: Network, threads: int) -> _Timed | Skipped:
    absent = target.runs_here()
    if absent is not None:
        return absent
    if not isinstance(target, CanProfile):
        return Skipped(f"{target.name} is not profiled by this tool")
    try:
        runs, source = target.profile(engine, threads, network.batch, BUDGET_S)
    except (BuildError, UnreadableKernels) as error:
        return Skipped(f"its profiler gave nothing to read: {error}")
    return _Timed(runs, source, threads)


def _summary(timed: _Timed, network: Network) -> Profile:
    return summarize(
        timed.runs, timed.source, network.layers, network.blocks, len(network.batch), timed.threads
    )
