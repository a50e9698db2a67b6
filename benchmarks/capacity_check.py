"""What `exporter capacity` predicts beside what a Triton server on this machine does.

    python -m benchmarks.capacity_check BUILD URL MODEL [--engine ID] [--seconds 60] [--out FILE]

BUILD was measured with `exporter benchmark --throughput`; URL is a server with model control mode
`explicit` that has MODEL, packed from that build with `--format triton`. Each operating point loads
the model with its own instances and batching (the repository API takes a configuration), sends
single images at the times of an open load whether or not earlier ones are answered, and simulates
the very same times.

What a service's owner would measure of the server is measured for each layout first, without
batches: an answer to one caller, and the most answers a second to many. Their differences to the
engine's own are `--overhead-ms` and `--busy-overhead-ms`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.triton_load import Triton
from exporter.artifact import Skipped
from exporter.builds import manifest as manifests
from exporter.builds.codec import plain
from exporter.builds.folder import find_build
from exporter.capacity.arrivals import Arrivals, Floats, bursts, poisson
from exporter.capacity.batcher import Server, simulate
from exporter.capacity.service_times import ServiceTimes, service_times
from exporter.disk.writing import write_whole
from exporter.host import describe_host

CALLERS: Final = 8
"""Who ask the server again and again, for the most that it answers."""
SETTLE: Final = 0.1
"""The part of the requests that is not counted."""


@dataclass(frozen=True)
class Point:
    """An operating point."""

    processes: int
    threads: int
    max_batch: int
    load: float
    """Of the rate at which it saturates."""
    arrivals: str = "poisson"

    @property
    def preferred(self) -> tuple[int, ...]:
        """The batch sizes that are worth waiting for, as `exporter capacity` has them."""
        return tuple(size for size in (4, 8) if size <= self.max_batch)


POINTS: Final = (
    Point(1, 2, 1, 0.2),
    Point(1, 2, 1, 0.7),
    Point(1, 2, 8, 0.6),
    Point(1, 2, 8, 0.95),
    Point(2, 1, 1, 0.5),
    Point(2, 1, 1, 0.85),
    Point(2, 1, 1, 0.5, "bursts"),
    Point(2, 1, 4, 0.6, "bursts"),
    Point(2, 1, 1, 1.1),
)
_COME: Final[dict[str, Arrivals]] = {"poisson": poisson, "bursts": bursts}


@dataclass(frozen=True)
class Added:
    """What the server adds to an engine in one layout."""

    overhead_s: float
    busy_overhead_s: float


@dataclass(frozen=True)
class Outcome:
    """A point, predicted and measured."""

    point: Point
    rate: float
    requests: int
    overhead_ms: float
    busy_overhead_ms: float
    predicted_p50_ms: float
    measured_p50_ms: float
    predicted_p99_ms: float
    measured_p99_ms: float
    late_ms: float
    """The 99th percentile of how late requests left: the load generator's own fault."""


def added(triton: Triton, times: ServiceTimes, seconds: float) -> Added:
    """Measures what the server adds, without batches, asked by many for so long."""
    layout = times.layout
    triton.load(layout.processes, layout.threads)
    alone_s = triton.alone_s()
    most = triton.most_per_s(CALLERS, seconds)
    return Added(
        max(0.0, alone_s - float(np.median(times.alone[1]))),
        max(0.0, times.instances / most - float(np.mean(times.busy[1]))),
    )


def check(
    triton: Triton, times: ServiceTimes, extra: Added, point: Point, seconds: float, seed: int
) -> Outcome:
    """Measures a point, and predicts it."""
    delay_s = float(np.median(times.alone[1])) if point.max_batch > 1 else 0.0
    rate = point.load * times.images_per_s(point.max_batch, extra.busy_overhead_s)
    triton.load(point.processes, point.threads, point.max_batch, point.preferred, delay_s)
    triton.alone_s()  # its first calls are slower
    come = _COME[point.arrivals](rate, round(rate * seconds), np.random.default_rng(seed))
    waits, late = triton.send(come)
    server = Server(point.max_batch, point.preferred, delay_s, **asdict(extra))
    predicted = simulate(come, server, times, np.random.default_rng(seed + 1)).waits_s
    predicted_p50, predicted_p99 = settled_ms(predicted)
    measured_p50, measured_p99 = settled_ms(waits)
    return Outcome(
        point,
        rate,
        len(come),
        1e3 * extra.overhead_s,
        1e3 * extra.busy_overhead_s,
        predicted_p50,
        measured_p50,
        predicted_p99,
        measured_p99,
        1e3 * float(np.percentile(late, 99)),
    )


def settled_ms(waits_s: Floats) -> tuple[float, float]:
    """p50 and p99 in ms of all but the first, which find an empty queue."""
    p50, p99 = np.percentile(waits_s[int(SETTLE * len(waits_s)) :], [50, 99])
    return 1e3 * float(p50), 1e3 * float(p99)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--engine")
    parser.add_argument("--seconds", type=float, default=60, help="of each operating point")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    manifest = manifests.read(find_build(options.build))
    if isinstance(manifest.throughput, Skipped):
        raise SystemExit(f"{options.build}: run `exporter benchmark --throughput` on it first")
    points = manifest.throughput.points
    engine = options.engine or max(points, key=lambda one: one.images_per_s).engine
    found = {
        (one.layout.processes, one.layout.threads): one
        for one in service_times(point for point in points if point.engine == engine)
        if one.layout.streams == 1
    }
    triton = Triton(options.url, options.model)
    extra = {layout: added(triton, times, options.seconds / 2) for layout, times in found.items()}
    outcomes = []
    print("processes threads batch load arrivals  images/s  p50 (predicted)  p99 (predicted)")  # noqa: T201
    for point in POINTS:
        layout = (point.processes, point.threads)
        one = check(triton, found[layout], extra[layout], point, options.seconds, options.seed)
        outcomes.append(one)
        print(_row(one), flush=True)  # noqa: T201
    if options.out:
        raw = {
            "kind": "capacity-check",
            "model": manifest.model.name,
            "engine": engine,
            "seconds": options.seconds,
            "host": plain(describe_host()),
            "points": [asdict(one) for one in outcomes],
        }
        write_whole(options.out, json.dumps(raw, indent=1) + "\n")


def _row(one: Outcome) -> str:
    point = one.point
    pairs = (
        (one.measured_p50_ms, one.predicted_p50_ms),
        (one.measured_p99_ms, one.predicted_p99_ms),
    )
    words = [f"{seen:6.1f} ({said:6.1f}, {said / seen - 1:+.0%})" for seen, said in pairs]
    return (
        f"{point.processes:9} {point.threads:7} {point.max_batch:5} {point.load:4.0%} "
        f"{point.arrivals:8} {one.rate:9.1f}  {'  '.join(words)}  "
        f"server {one.overhead_ms:.2f} ms, busy {one.busy_overhead_ms:.2f} ms, "
        f"late {one.late_ms:.2f} ms"
    )


if __name__ == "__main__":
    main()
