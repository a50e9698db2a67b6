"""`exporter benchmark --throughput`: what a host answers that has nothing else to do.

The engines are packed as what serves gets them, and loaded by `exporter.runtime`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.artifact import Skipped
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.records import EngineRecord, Manifest
from exporter.builds.unused import fixed_batch
from exporter.host import usable_threads
from exporter.measure.serving import Load, measure_throughput
from exporter.measure.throughput import Throughput
from exporter.measure.timing import Latency
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.progress import Progress
from exporter.runtime.sessions import Backend, backend_of
from exporter.targets import why_not_here


def measure_build(
    manifest: Manifest, request: BenchmarkRequest, progress: Progress
) -> Throughput | Skipped:
    """Measures the engines of a build that `served_engines` names.

    Raises:
        NotReproducedError: one of them no longer answers as it was validated.
    """
    engines = served_engines(manifest)
    if not engines:
        return Skipped("no engine that passed runs on this CPU in exporter.runtime")
    fixed = fixed_batch(manifest.model)
    ids = tuple(engine.id for engine in engines)
    with packed(request.build, ids, progress) as bundle:
        load = Load(
            bundle=bundle,
            engines=ids,
            batches=request.throughput_batches if fixed is None else (fixed,),
            cores=request.cores or usable_threads(),
            rounds=request.rounds,
            seed=manifest.request.seed,
            max_p99_ms=request.max_p99,
        )
        return measure_throughput(load, progress)


@contextmanager
def packed(build: Path, engines: tuple[str, ...], progress: Progress) -> Iterator[Path]:
    """A bundle of these engines, for as long as it is measured.

    Raises:
        NotReproducedError: as `measure_build`.
    """
    with tempfile.TemporaryDirectory(prefix="exporter-") as folder:
        out = Path(folder) / "bundle"
        request = PackRequest(build, out=out, engines=engines, allow_untrained=True)
        yield pack(request, progress).path


def served_engines(manifest: Manifest) -> list[EngineRecord]:
    """Of each runtime library on CPUs the engine with the least latency: they are tried."""
    fastest: dict[str, EngineRecord] = {}
    for engine in sorted(manifest.engines, key=_p50_ms):
        backend = backend_of(engine.target)
        if backend is not None and _is_served(engine, backend):
            fastest.setdefault(backend.module, engine)
    return list(fastest.values())


def _is_served(engine: EngineRecord, backend: Backend) -> bool:
    measured = isinstance(engine.latency, Latency)
    here = backend.device == "cpu" and why_not_here(engine.target) is None
    return engine.passed and measured and here


def _p50_ms(engine: EngineRecord) -> float:
    return engine.latency.p50_ms if isinstance(engine.latency, Latency) else float("inf")
