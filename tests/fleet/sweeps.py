"""Sweeps as they come out of figures that were measured once; nothing is run here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from exporter.builds.records import Manifest
from exporter.fleet.offers import choices_of, offers_of
from exporter.fleet.record import BuildRecord, FailedJob, HardwareRecord, Limits, SweepRecord
from exporter.host import Host
from exporter.report import flat
from exporter.report.flat import FlatReport
from tests import manifests

ZEN = Host(
    cpu="AMD EPYC 7B13", system="Linux x86_64", logical_cpus=4, threads=2,
    cpu_flags=("avx2", "avx512f", "avx512_vnni"), gpu=None, driver=None, compute_capability=None,
    versions={"exporter": "0.1.0", "torch": "2.13"},
)  # fmt: skip
OLD = replace(ZEN, cpu="Intel Xeon E5", cpu_flags=("avx2",))
L4 = replace(ZEN, gpu="NVIDIA L4", driver="580.1", compute_capability="8.9", threads=8)


def report(manifest: Manifest, slower: float = 1.0) -> FlatReport:
    """The figures of a build, on a machine that takes `slower` times as long."""
    found = flat(manifest)
    engines = []
    for engine in found.engines:
        timings = [
            replace(
                timing,
                p50_ms=slower * timing.p50_ms,
                p99_ms=slower * timing.p99_ms,
                p50_ci95_ms=(slower * 0.98 * timing.p50_ms, slower * 1.03 * timing.p50_ms),
            )
            for timing in engine.latencies
        ]
        engines.append(replace(engine, latencies=tuple(timings)))
    return replace(found, engines=tuple(engines))


def sweep(
    limits: Limits | None = None,
    prices: Mapping[str, float] | None = None,
    manifest: Manifest | None = None,
    failed: tuple[FailedJob, ...] = (),
) -> SweepRecord:
    """One model on two kinds of machine; `old` is three times as slow."""
    limits, prices = limits or Limits(), prices or {}
    manifest = manifest or manifests.resnet50(trained=True)
    builds = tuple(
        BuildRecord("resnet50", name, f"resnet50-{name}", report(manifest, slower))
        for name, slower in (("zen", 1.0), ("old", 3.0))
    )
    offers = offers_of(builds, prices)
    models = ["resnet50", *dict.fromkeys(one.model for one in failed if one.model != "resnet50")]
    return SweepRecord(
        name="fleet",
        store="s3://bucket/sweep",
        limits=limits,
        hardware=tuple(
            HardwareRecord(**vars(host), name=name, nodes=2, price=prices.get(name))
            for name, host in (("zen", ZEN), ("old", OLD))
        ),
        builds=builds,
        failed=failed,
        offers=offers,
        choices=choices_of(models, offers, limits),
    )
