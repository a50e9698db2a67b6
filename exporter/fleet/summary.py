"""What a sweep's builds come to: the record that sweep.json holds, and the page is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.builds.records import Manifest
from exporter.fleet.hardware import Kind
from exporter.fleet.jobs import Job
from exporter.fleet.offers import choices_of, offers_of
from exporter.fleet.record import BuildRecord, FailedJob, HardwareRecord, SweepRecord
from exporter.fleet.spec import Spec
from exporter.report.flat import flat


def record_of(
    spec: Spec,
    store: str,
    jobs: Sequence[tuple[Job, Kind]],
    found: Mapping[str, Manifest | None],
    failed: Mapping[str, str],
) -> SweepRecord:
    """The figures of every build that is there, what it costs, and what to take.

    `store` is as it was given, `found` the manifest of each build (None: it is not there), and
    `failed` says of a build why there is none.
    """
    builds = tuple(
        BuildRecord(job.model, job.hardware, job.build, flat(manifest))
        for job, _ in jobs
        if (manifest := found[job.build]) is not None
    )
    offers = offers_of(builds, spec.prices)
    kinds = {kind.hardware.name: kind for _, kind in jobs}
    return SweepRecord(
        name=spec.name,
        store=store,
        limits=spec.limits,
        hardware=tuple(
            HardwareRecord(
                **vars(kind.host), name=name, nodes=len(kind.nodes), price=spec.prices.get(name)
            )
            for name, kind in kinds.items()
        ),
        builds=builds,
        failed=tuple(
            FailedJob(job.model, job.hardware, failed[job.build])
            for job, _ in jobs
            if job.build in failed
        ),
        offers=offers,
        choices=choices_of([model.name for model in spec.models], offers, spec.limits),
    )
