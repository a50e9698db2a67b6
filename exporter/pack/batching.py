"""How a server should batch an engine, from the latencies that were measured at each batch size.

A request that arrives just after a batch has started waits for that batch, then for the queue's
delay, then runs in a batch of its own. So with a limit (`slo_ms`) a batch size is allowed where

    2 * p99(batch) + delay <= slo

and the largest throughput (batch / p50) among the allowed sizes wins. Without a limit all measured
sizes are allowed. A larger size must gain at least 5 %: below that it only adds latency. The delay
is what the limit leaves, at most the p50 of one image: who waits longer than the work itself takes
gains nothing from company.

Where throughput was measured, instances and their threads are those of the best layout. Its p99 has
the wait for the batch before in it, so a batch size is allowed where

    p99 under load + delay <= slo
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from exporter.artifact import Skipped
from exporter.builds.records import EngineRecord
from exporter.errors import UsageError
from exporter.measure.throughput import ServedPoint, Throughput, with_best
from exporter.measure.timing import Latency

UNMEASURED_BATCH: Final = 8
"""The largest batch that is served where no latency was measured."""
_GAIN: Final = 1.05


@dataclass(frozen=True)
class Batching:
    """What `config.pbtxt` says about batches."""

    max_batch: int
    preferred: tuple[int, ...]
    """Batch sizes worth waiting for; empty: no dynamic batching."""
    delay_us: int
    timeout_us: int | None
    """A request that waited longer is rejected; None: it waits."""
    threads: int
    instances: int
    reason: str


def plan_batching(
    engine: EngineRecord,
    host_threads: int,
    *,
    slo_ms: float | None,
    limit: int | None,
    measured: Throughput | Skipped = Skipped("not measured"),
) -> Batching:
    """Batching for an engine; `limit` is the largest batch that it can take at all.

    `measured` is the throughput of the build.

    Raises:
        UsageError: the limit in time cannot be met, or nothing was measured to meet it with.
    """
    latencies = sorted(engine.latencies, key=lambda measured: measured.batch)
    usable = [m for m in latencies if limit is None or m.batch <= limit]
    if slo_ms is not None and not 0 < slo_ms < math.inf:
        raise UsageError(f"--slo-ms {slo_ms} is no time; give milliseconds")
    if isinstance(measured, Throughput):
        under_load = _under_load(engine, measured, slo_ms, limit)
        if under_load is not None:
            return under_load
    if not usable:
        if slo_ms is not None:
            raise UsageError(
                f"--slo-ms needs measured latencies, and {engine.id} has none; "
                "run `exporter benchmark` on the build first"
            )
        return Batching(
            max_batch=min(UNMEASURED_BATCH, limit or UNMEASURED_BATCH),
            preferred=(),
            delay_us=0,
            timeout_us=None,
            threads=host_threads,
            instances=1,
            reason=f"{engine.id} was not measured, so requests are not batched together; "
            "run `exporter benchmark --batches 1,2,4,8,16` on the build first",
        )
    allowed = usable if slo_ms is None else [m for m in usable if 2 * m.p99_ms <= slo_ms]
    if not allowed:
        raise UsageError(
            f"--slo-ms {slo_ms:g} cannot be met by {engine.id}: a request may wait for one batch "
            "and run in the next, and the smallest that was measured, of "
            f"{usable[0].batch}, takes {usable[0].p99_ms:.2f} ms (p99)"
        )
    best = _most_throughput(allowed)
    delay_ms = usable[0].p50_ms
    if slo_ms is not None:
        delay_ms = min(delay_ms, slo_ms - 2 * best.p99_ms)
    batch = best.batch
    return Batching(
        max_batch=batch,
        preferred=tuple(m.batch for m in allowed if 1 < m.batch <= batch),
        delay_us=round(1000 * delay_ms) if batch > 1 else 0,
        timeout_us=None if slo_ms is None else round(1000 * slo_ms),
        threads=best.threads,
        instances=max(1, host_threads // best.threads),
        reason=f"batches of up to {batch}: {1000 * batch / best.p50_ms:.0f} images/s "
        f"at {best.p50_ms:.2f} ms (p50), {best.p99_ms:.2f} ms (p99)",
    )


def _under_load(
    engine: EngineRecord, measured: Throughput, slo_ms: float | None, limit: int | None
) -> Batching | None:
    """From what the engine's layouts answered; None: none of them is within the limit."""
    tried = [
        point
        for point in measured.points
        if point.engine == engine.id and (limit is None or point.batch <= limit)
    ]
    allowed_ms = measured.max_p99_ms if slo_ms is None else slo_ms
    best = next((point for point in with_best(tried, allowed_ms) if point.best), None)
    if best is None:
        return None
    same = sorted((p for p in tried if p.layout == best.layout), key=lambda point: point.batch)
    batch, instances = best.batch, best.processes * best.streams
    delay_ms = same[0].p50_ms if slo_ms is None else min(same[0].p50_ms, slo_ms - best.p99_ms)
    return Batching(
        max_batch=batch,
        preferred=tuple(point.batch for point in same if 1 < point.batch <= batch),
        delay_us=round(1000 * delay_ms) if batch > 1 else 0,
        timeout_us=None if slo_ms is None else round(1000 * slo_ms),
        threads=best.threads,
        instances=instances,
        reason=_reason(best, measured, instances),
    )


def _reason(best: ServedPoint, measured: Throughput, instances: int) -> str:
    many = f"{instances} instances" if instances > 1 else "1 instance"
    threads = f"{best.threads} threads" if best.threads > 1 else "1 thread"
    cores = f"{measured.cores} cores" if measured.cores > 1 else "1 core"
    return (
        f"{many} of {threads}, batches of up to {best.batch}: {best.images_per_s:.0f} images/s at "
        f"{best.p50_ms:.2f} ms (p50), {best.p99_ms:.2f} ms (p99) for {measured.callers} callers at "
        f"once, the best that was measured on {cores}"
    )


def _most_throughput(allowed: Sequence[Latency]) -> Latency:
    best = allowed[0]
    for measured in allowed[1:]:
        if measured.batch / measured.p50_ms > _GAIN * best.batch / best.p50_ms:
            best = measured
    return best
