"""`exporter capacity`: how many machines a rate takes, by simulation of what was measured."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.artifact import Skipped
from exporter.builds import converters
from exporter.builds import manifest as manifests
from exporter.builds.capacity_request import CapacityRequest
from exporter.builds.codec import json_text
from exporter.builds.folder import find_build
from exporter.builds.records import Manifest
from exporter.builds.staging import check_writable
from exporter.capacity import arrivals
from exporter.capacity.files import write_plan
from exporter.capacity.plan import (
    FULLEST,
    Demand,
    Found,
    curve,
    estimate,
    find,
    percentile_ms,
    utilisation,
)
from exporter.capacity.record import Plan
from exporter.capacity.service_times import ServiceTimes, service_times
from exporter.errors import UsageError, unknown_name
from exporter.measure.throughput import Throughput
from exporter.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

_AGAIN: Final = "`exporter benchmark {} --throughput` measures it"
_HOURS: Final = 3600.0


@dataclass(frozen=True)
class Planned:
    """The plan, and the files that were written of it."""

    plan: Plan
    files: tuple[Path, ...]

    def to_json(self) -> str:
        """The plan, for programs."""
        return json_text(self.plan)


def capacity(request: CapacityRequest, progress: Progress) -> Planned:
    """Plans a service of one engine of a build.

    Raises:
        UsageError: nothing can be planned as asked, or no set-up keeps the limit.
        InputError: the build or the trace cannot be used.
    """
    _check_numbers(request)
    spare = _spare(request.availability)
    folder = find_build(request.build)
    manifest = manifests.read(folder)
    times = _times(manifest, request)
    come, words = _arrivals(request.arrivals)
    if request.out is not None:
        check_writable(request.out)
    demand = Demand(
        rate=request.rate,
        slo_ms=request.slo_ms,
        arrivals=come,
        spare=spare,
        overhead_ms=request.overhead_ms,
        busy_overhead_ms=request.busy_overhead_ms,
        price=request.price,
        seed=request.seed,
    )
    engine = _engine_of(manifest, request)
    plan = _plan(manifest, engine, words, demand, find(times, demand, progress))
    written: list[Path] = []
    if request.out is not None:
        record = next(one for one in manifest.engines if one.id == engine)
        written = write_plan(
            plan,
            record,
            request.out,
            json_text(plan),
            cold_start_s=request.cold_start_s,
            growth=converters.fraction(request.growth),
        )
    return Planned(plan, tuple(written))


def _check_numbers(request: CapacityRequest) -> None:
    wanted = {
        "--rate": request.rate,
        "--slo-ms": request.slo_ms,
        "--price": request.price,
        "--cold-start-s": request.cold_start_s,
    }
    for flag, value in wanted.items():
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{flag} is {value:g}: give a number above 0")
    added = {
        "--overhead-ms": request.overhead_ms,
        "--busy-overhead-ms": request.busy_overhead_ms,
    }
    for flag, milliseconds in added.items():
        if not 0 <= milliseconds < math.inf:
            raise UsageError(f"{flag} is {milliseconds:g}: give 0 or more milliseconds")


def _spare(availability: str) -> int:
    match = re.fullmatch(r"N(?:-(\d{1,4}))?", availability.strip().upper())
    if match is None:
        raise UsageError(
            f"--availability {availability!r}: give N, or N-1 where one machine may be lost"
        )
    return int(match[1] or 0)


def _arrivals(given: str) -> tuple[arrivals.Arrivals, str]:
    """How requests come, and that in words."""
    if given == "poisson":
        return arrivals.poisson, "requests come at random (Poisson)"
    if given == "bursts":
        return arrivals.bursts, (
            f"requests come in bursts of {arrivals.BURST:g} times the mean rate, "
            f"{100 * arrivals.BURST_SHARE:g} % of the time, {arrivals.BURST_S:g} s long in the mean"
        )
    path = Path(given)
    if path.suffix.lower() != ".csv":
        raise UsageError(f"--arrivals {given!r}: give poisson, bursts, or a trace as FILE.csv")
    return arrivals.traced(arrivals.read_trace(path)), f"requests come as in {path.name}"


def _measured(manifest: Manifest, request: CapacityRequest) -> Throughput:
    if isinstance(manifest.throughput, Skipped):
        raise UsageError(
            f"{manifest.model.name}: throughput was not measured ({manifest.throughput.skipped}); "
            + _AGAIN.format(request.build)
        )
    return manifest.throughput


def _engine_of(manifest: Manifest, request: CapacityRequest) -> str:
    points = _measured(manifest, request).points
    known = list(dict.fromkeys(point.engine for point in points))
    if request.engine is None:
        return max(points, key=lambda point: point.images_per_s).engine
    if request.engine not in [one.id for one in manifest.engines]:
        raise unknown_name("engine", request.engine, known)
    if request.engine not in known:
        raise UsageError(
            f"{request.engine} was not measured under load, only {', '.join(known)} were: of each "
            "runtime library the fastest"
        )
    return request.engine


def _times(manifest: Manifest, request: CapacityRequest) -> list[ServiceTimes]:
    engine = _engine_of(manifest, request)
    points = _measured(manifest, request).points
    found = service_times(point for point in points if point.engine == engine)
    if not found:
        raise UsageError(
            f"{engine}: no samples of its calls at batch 1 are kept; "
            + _AGAIN.format(request.build)
        )
    return found


def _plan(manifest: Manifest, engine: str, words: str, demand: Demand, found: Found) -> Plan:
    machine, host = found.machine, manifest.host
    machines = found.needed + demand.spare
    cores = machine.times.instances * machine.times.layout.threads
    hourly = None if demand.price is None else machines * demand.price
    return Plan(
        model=manifest.model.name,
        engine=engine,
        machine=f"{cores} cores of {host.cpu}",
        cores=cores,
        arrivals=words,
        rate=demand.rate,
        slo_ms=demand.slo_ms,
        serving=machine.serving,
        needed=found.needed,
        spare=demand.spare,
        most=found.most,
        saturates=machine.saturates,
        p50_ms=estimate([percentile_ms(one, 50) for one in found.served]),
        p99_ms=estimate([percentile_ms(one, 99) for one in found.served]),
        p999_ms=estimate([percentile_ms(one, 99.9) for one in found.served]),
        utilisation=_mean([utilisation(one, machine) for one in found.served]),
        rejected=_mean([one.rejected / (one.rejected + len(one.waits_s)) for one in found.served]),
        mean_batch=_mean([one.mean_batch for one in found.served]),
        limit=_limit(found, demand),
        cost_an_hour=hourly,
        cost_a_million=None if hourly is None else 1e6 * hourly / (_HOURS * demand.rate),
        curve=curve(machine, demand),
        alternatives=found.alternatives,
        assumptions=_assumptions(demand, words, None if cores < host.threads else cores),
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _limit(found: Found, demand: Demand) -> str:
    most, saturates = found.most, found.machine.saturates
    if most >= 0.99 * FULLEST * saturates:
        return (
            f"its cores: beyond {FULLEST:.0%} of the {saturates:.4g} images/s at which a machine "
            "saturates queues grow without end"
        )
    return (
        f"p99: it passes {demand.slo_ms:g} ms at {most:.4g} images/s a machine, which would "
        f"saturate at {saturates:.4g}"
    )


def _assumptions(demand: Demand, words: str, all_cores: int | None) -> tuple[str, ...]:
    """What the plan takes for true; `all_cores` where the engine has every core of its machine."""
    waits = () if all_cores is None else (
        f"the server's own work waits for no core, though the engine has all {all_cores} "
        "(`exporter benchmark --throughput --cores` measures it on fewer)",
    )  # fmt: skip
    return (
        "every machine is like the one that was measured, and does nothing else",
        f"{words}; each goes to any machine with the same chance",
        "a request is one image, and nobody asks again after an error",
        "calls take what was measured, alone and with all instances busy; between the two in "
        "proportion to how many are",
        f"the server adds {demand.overhead_ms:g} ms to an answer (--overhead-ms) and takes "
        f"{demand.busy_overhead_ms:g} ms of busy cores for each request (--busy-overhead-ms); the "
        "network adds nothing",
        *waits,
    )


def render(planned: Planned, console: Console) -> None:
    """The plan, what else was simulated, and what it assumes."""
    from rich.markup import escape
    from rich.table import Table

    from exporter.commands.print_table import print_table

    plan = planned.plan
    spare = f" and {plan.spare} to lose" if plan.spare else ""
    console.print(
        f"{plan.machines:,} machines ({plan.needed:,}{spare}), each {plan.machine}: "
        f"{plan.serving}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    table = Table("p50", "p99", "p99.9", "busy", "rejected", "batch", "images/s a machine")
    table.add_row(
        *(
            f"{one.value:.4g} ms ({one.ci95[0]:.4g} to {one.ci95[1]:.4g})"
            for one in (plan.p50_ms, plan.p99_ms, plan.p999_ms)
        ),
        f"{plan.utilisation:.0%}",
        f"{plan.rejected:.2%}",
        f"{plan.mean_batch:.2f}",
        f"{plan.rate / plan.needed:.4g} (at most {plan.most:.4g})",
    )
    print_table(table, console)
    console.print(f"what breaks first: {plan.limit}", markup=False, soft_wrap=True)
    if plan.cost_an_hour is not None and plan.cost_a_million is not None:
        console.print(
            f"cost: {plan.cost_an_hour:,.4g} an hour, {plan.cost_a_million:.4g} a million images",
            soft_wrap=True,
        )
    others = Table("set-up", "images/s within the limit", "p99 almost without load")
    for one in plan.alternatives:
        most = f"{one.most:.4g}" if one.most else "none"
        others.add_row(escape(str(one.serving)), most, f"{one.least_p99_ms:.4g} ms")
    print_table(others, console)
    for line in plan.assumptions:
        console.print(f"assumed: {line}", markup=False, soft_wrap=True)
    for file in planned.files:
        console.print(str(file), markup=False, soft_wrap=True)
