"""`exporter sweep`: builds of many models on many kinds of machine, each measured alone, one page.

A job is `export` of the Python API on a node that is the hardware. Its build goes to the store, the
manifest last; what is there already is not done again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.builds.option import arguments, narrowed, refuse_unusable
from exporter.builds.records import Manifest
from exporter.builds.staging import check_writable
from exporter.builds.sweep_request import SweepRequest
from exporter.cluster.alone import alone_on_machine
from exporter.commands.calls import Shown, SweepCall, shown, takes
from exporter.commands.export import export
from exporter.errors import ExporterError
from exporter.fleet.files import PAGE, RECORD, record_text, write
from exporter.fleet.hardware import Kind, kinds_of
from exporter.fleet.jobs import Job, jobs_of, left_out_on, request_into
from exporter.fleet.machines import Jobs, Machines, machines
from exporter.fleet.offers import drop_of
from exporter.fleet.record import Choice, SweepRecord
from exporter.fleet.spec import read_spec
from exporter.fleet.store import Store
from exporter.fleet.summary import record_of
from exporter.images.sources.storage import is_local
from exporter.progress import Progress
from exporter.report.flat import ReportTiming
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
    uri = str(out / _BUILDS) if spec.store is None else spec.store
    store = Store(str(Path(uri).absolute()) if is_local(uri) else uri)
    store.prepare()
    with machines(request.on, progress) as there:
        kinds = kinds_of(spec.hardware, there.nodes)
        jobs = jobs_of(spec, kinds)
        for kind in kinds:
            if without := left_out_on(kind, spec.targets):
                progress.note(f"{', '.join(without)}: not on {kind.hardware.name}, without a GPU")
        found = {job.build: store.manifest(job.build) for job, _ in jobs}
        before = sum(one is not None for one in found.values())
        if before:
            progress.note(f"{before} of {len(found)} builds are in the store already")
        # What is done elsewhere cannot show its progress here.
        work = Work(store, progress if request.on is None else False)
        failed = _do_missing(there, jobs, found, work, progress)
    record = record_of(spec, spec.store or _BUILDS, jobs, found, failed)
    write(out, record)
    return Sweep(out, record, before)


def _do_missing(
    machines: Machines,
    jobs: Jobs,
    found: dict[str, Manifest | None],
    work: Work,
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
        for job, problem in machines.done(list(missing.values()), work, progress):
            if problem is None:
                found[job.build] = work.store.manifest(job.build)
                if found[job.build] is None:
                    problem = (
                        f"its build is not in {work.store.uri} as this machine sees it; name a "
                        "store: in the spec that all nodes share"
                    )
            if problem is not None:
                failed[job.build] = problem
                progress.note(f"{job.model} on {job.hardware} failed: {problem}")
            advance(1)
    return failed


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
