"""`exporter sweep`: builds of many models on many kinds of machine, each measured alone, one page.

A job is `export` of the Python API on a node that is the hardware. Its build goes to the store, the
manifest last; what is there already is not done again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from exporter import host
from exporter.builds.option import arguments, narrowed, refuse_unusable
from exporter.builds.records import Manifest
from exporter.builds.staging import check_writable
from exporter.builds.sweep_request import SweepRequest
from exporter.cluster.alone import alone_on_machine
from exporter.commands.calls import Shown, SweepCall, shown, takes
from exporter.commands.export import export
from exporter.errors import ExporterError
from exporter.fleet.files import PAGE, RECORD, record_text, write
from exporter.fleet.hardware import Kind, Node, kinds_of
from exporter.fleet.jobs import Job, jobs_of, request_into
from exporter.fleet.offers import choices_of, drop_of, offers_of
from exporter.fleet.record import BuildRecord, Choice, FailedJob, HardwareRecord, SweepRecord
from exporter.fleet.spec import Spec, read_spec
from exporter.fleet.store import Store
from exporter.images.sources.storage import is_local
from exporter.progress import Progress
from exporter.report.flat import ReportTiming, flat
from exporter.runtime.errors import reason_of

if TYPE_CHECKING:
    import os

    from rich.console import Console

_BUILDS: Final = "builds"
"""The store's folder in `--out`, where the spec names no other."""


@dataclass(frozen=True)
class Sweep:
    """What `exporter sweep` found, and where it is."""

    out: Path
    """The folder with `fleet.html` and `sweep.json`."""
    record: SweepRecord
    """All of what `sweep.json` holds: the hardware, each build's figures, offers and choices."""
    done_before: int
    """Builds that were in the store already."""

    @property
    def failures(self) -> tuple[str, ...]:
        """Each job that failed, and what failed inside of the others, a line each."""
        return self.record.failures

    def to_json(self) -> str:
        """The record, for programs."""
        return record_text(self.record)


@dataclass(frozen=True)
class Work:
    """Does a job and stores its build; it travels to a node as it is."""

    store: Store
    progress: Shown = False

    def __call__(self, job: Job) -> str | None:
        """None where the build is in the store; else why it is not."""
        try:
            with (
                alone_on_machine(),
                tempfile.TemporaryDirectory(prefix="exporter-sweep-") as scratch,
            ):
                if self.store.manifest(job.build) is None:  # nobody else did it meanwhile
                    out = Path(scratch) / job.model
                    request = request_into(job.request, out)
                    export(request.source, **arguments(request), progress=self.progress)
                    self.store.put(out, job.build)
        except ExporterError as error:
            return str(error)
        except Exception as error:  # whatever a network or a runtime raises costs this job alone
            return f"{type(error).__name__}: {reason_of(error, 300)}"
        return None


Done = Iterator[tuple[Job, str | None]]
Jobs = Sequence[tuple[Job, Kind]]


class Machines(Protocol):
    """Who does the jobs."""

    nodes: tuple[Node, ...]

    def done(self, jobs: Jobs, work: Work, progress: Progress) -> Done:
        """Each job as it ends, with why it failed, on a node that is its kind of machine."""
        ...


class Here:
    """This machine alone."""

    def __init__(self) -> None:
        here = Node("here", "this machine", host.describe_host(), {})
        self.nodes: tuple[Node, ...] = (here,)

    def done(self, jobs: Jobs, work: Work, progress: Progress) -> Done:
        """One after the other."""
        work = replace(work, progress=progress)
        for job, _ in jobs:
            with progress.stage(f"{job.model} on {job.hardware}"):
                problem = work(job)
            yield job, problem


class Cluster:
    """A Ray cluster's nodes, each doing one job at a time and nothing else."""

    def __init__(self, ray: object, progress: Progress) -> None:
        from exporter.cluster.whole_nodes import Lost, asked_each, living_nodes

        self._ray = ray
        self._ray_nodes = living_nodes(ray)
        nodes = []
        answers = asked_each(ray, self._ray_nodes, host.describe_host)
        for node, found in zip(self._ray_nodes, answers, strict=True):
            if isinstance(found, Lost):
                progress.note(f"node {node.address} is left out: {found.reason}")
            else:
                nodes.append(Node(node.id, node.address, found, node.labels))
        self.nodes = tuple(nodes)

    def done(self, jobs: Jobs, work: Work, progress: Progress) -> Done:
        """As nodes are free."""
        from exporter.cluster.whole_nodes import Lost, Task, done_alone

        tasks = [Task(job, [node.id for node in kind.nodes]) for job, kind in jobs]

        def given(job: Job, address: str) -> None:
            progress.detail(f"{job.model} on {job.hardware} goes to {address}")

        for job, found in done_alone(self._ray, self._ray_nodes, tasks, work, given, progress.note):
            yield job, found.reason if isinstance(found, Lost) else found


@contextmanager
def _machines(on: str | None, progress: Progress) -> Iterator[Machines]:
    if on is None:
        yield Here()
        return
    from exporter.cluster.connection import connected

    with connected(on) as ray:
        yield Cluster(ray, progress)


def run_sweep(request: SweepRequest, progress: Progress) -> Sweep:
    """Does each job that is not done, and writes the page of all.

    Raises:
        UsageError: no node is a hardware of the spec, or no cluster is there.
        InputError: the spec, the store or `out` cannot be used.
        MissingDependencyError: PyYAML, fsspec or Ray is not installed.
    """
    spec = read_spec(request.spec)
    out = request.out or Path("build", "sweeps") / spec.name
    check_writable(out)
    named = spec.store or _BUILDS
    uri = named if spec.store is not None else str(out / _BUILDS)
    store = Store(str(Path(uri).absolute()) if is_local(uri) else uri)
    store.prepare()
    with _machines(request.on, progress) as machines:
        kinds = kinds_of(spec.hardware, machines.nodes)
        jobs = jobs_of(spec, kinds)
        found = {job.build: store.manifest(job.build) for job, _ in jobs}
        before = sum(one is not None for one in found.values())
        if before:
            progress.note(f"{before} of {len(found)} builds are in the store already")
        failed = _do_missing(machines, jobs, found, store, progress)
    record = _record(spec, named, kinds, [job for job, _ in jobs], found, failed)
    write(out, record)
    return Sweep(out, record, before)


def _do_missing(
    machines: Machines,
    jobs: Jobs,
    found: dict[str, Manifest | None],
    store: Store,
    progress: Progress,
) -> dict[str, str]:
    """Does what is not there, and adds it to what was found; why each other one failed."""
    missing: dict[str, tuple[Job, Kind]] = {}
    for job, kind in jobs:
        if found[job.build] is None:
            missing.setdefault(job.build, (job, kind))
    failed: dict[str, str] = {}
    if not missing:
        return failed
    title = f"{len(missing)} builds"
    with progress.stage(title, len(missing)) as advance:
        for job, problem in machines.done(list(missing.values()), Work(store), progress):
            if problem is None:
                found[job.build] = store.manifest(job.build)
                if found[job.build] is None:
                    problem = (
                        f"its build is not in {store.uri} as this machine sees it; name a store: "
                        "in the spec that all nodes share"
                    )
            if problem is not None:
                failed[job.build] = problem
                progress.note(f"{job.model} on {job.hardware} failed: {problem}")
            advance(1)
    return failed


def _record(
    spec: Spec,
    store: str,
    kinds: Sequence[Kind],
    jobs: Sequence[Job],
    found: dict[str, Manifest | None],
    failed: dict[str, str],
) -> SweepRecord:
    builds = tuple(
        BuildRecord(job.model, job.hardware, job.build, flat(manifest))
        for job in jobs
        if (manifest := found[job.build]) is not None
    )
    offers = offers_of(builds, spec.prices)
    return SweepRecord(
        name=spec.name,
        store=store,
        limits=spec.limits,
        hardware=tuple(
            HardwareRecord(
                **vars(kind.host),
                name=kind.hardware.name,
                nodes=len(kind.nodes),
                price=spec.prices.get(kind.hardware.name),
            )
            for kind in kinds
        ),
        builds=builds,
        failed=tuple(
            FailedJob(job.model, job.hardware, failed[job.build])
            for job in jobs
            if job.build in failed
        ),
        offers=offers,
        choices=choices_of([model.name for model in spec.models], offers, spec.limits),
    )


def render(swept: Sweep, console: Console) -> None:
    """Every engine on every kind of machine, and which to take."""
    from rich.markup import escape
    from rich.table import Table

    from exporter.commands.print_table import print_table

    record = swept.record
    table = Table("model", "hardware", "engine", "p50", "95 %", "p99", "speedup", "drop")
    for build in record.builds:
        for engine in build.report.engines:
            timing = engine.latencies[0] if engine.latencies else None
            drop = drop_of(engine)
            table.add_row(
                escape(build.model),
                escape(build.hardware),
                escape(engine.id) + (" [red]rejected[/]" if engine.rejected else ""),
                "-" if timing is None else f"{timing.p50_ms:.3g} ms",
                _interval(timing),
                "-" if timing is None else f"{timing.p99_ms:.3g} ms",
                "-" if timing is None else f"{timing.speedup:.3g}x",
                "-" if drop is None else f"{drop:.2%}",
            )
    print_table(table, console)
    for choice in record.choices:
        console.print(f"{choice.model}: {_words(choice)}", markup=False, soft_wrap=True)
    console.print(f"\n{swept.out / PAGE}  {swept.out / RECORD}", markup=False, soft_wrap=True)


def _interval(timing: ReportTiming | None) -> str:
    if timing is None or timing.p50_ci95_ms is None:
        return "-"
    return f"{timing.p50_ci95_ms[0]:.3g} to {timing.p50_ci95_ms[1]:.3g} ms"


def _words(choice: Choice) -> str:
    best = choice.best
    if best is None:
        return choice.impossible
    cost = best.cost_a_million
    costs = "" if cost is None else f", {cost:.3g} a million images"
    return (
        f"{best.engine} on {best.hardware} at batch {best.batch}: {best.images_per_s:.4g} "
        f"images/s, p99 {best.p99_ms:.3g} ms{costs}"
    )


@takes(SweepCall)
def sweep(  # noqa: D417
    spec: str | os.PathLike[str], request_for: Callable[[Path], SweepCall]
) -> Sweep:
    """Build and measure many models on many kinds of machine, each alone on its node; one page.

    Args:
        spec: the YAML file that says which; see `docs/guides/sweep.md`.
        {options}
        progress: see `exporter.export`.

    Returns:
        Every build's figures (`record`), where the page is (`out`), and the failures: a job that
        failed costs that job only.

    Raises:
        UsageError: no node is a hardware of the spec, or no cluster is there.
        InputError: the spec, the store or `out` cannot be used.

    >>> import exporter
    >>> swept = exporter.sweep("fleet.yaml")  # doctest: +SKIP
    >>> swept.record.choices[0].best.engine  # doctest: +SKIP
    'openvino.int8'
    """
    call = request_for(Path(spec))
    request = narrowed(SweepRequest, call)
    refuse_unusable(request)
    return run_sweep(request, shown(call.progress))
