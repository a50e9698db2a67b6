"""What `exporter capacity` predicts beside what a Triton server on this machine does.

    python -m benchmarks.capacity_check BUILD URL MODEL [--engine ID] [--seconds 30] [--rounds 5]

BUILD was measured with `exporter benchmark --throughput`; URL is a server with model control mode
`explicit` that has MODEL, packed from that build with `--format triton`. Each operating point loads
the model with its own instances and batching (the repository API takes a configuration), sends
single images at the times of an open load whether or not earlier ones are answered, and simulates
the very same times.

What a service's owner would measure of the server is measured right before each load: an answer to
one caller, and the most answers a second to many, which is the limit that loads are parts of. Their
differences to the engine's own are `--overhead-ms` and `--busy-overhead-ms`; where the server
answers more than the engine did when it was measured, the machine is faster now, and its calls are
taken to be so.

Every point is measured in each round, with arrivals of its own; what counts is the median of the
rounds, of p50 and p99 and of the ratio of what was predicted to what was measured. A machine that
stands still for the fifth of a second, as those of a shared host do, moves the p99 of half a minute
to three times itself, and one round's is not the median's.

Where two instances fill both cores, Triton and the callers take turns with them, a slice of the
scheduler at each step of a request. Beside one instance they have a core for themselves.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from benchmarks.command_line import finish_alone
from benchmarks.triton_load import Triton
from exporter.artifact import Skipped
from exporter.builds import manifest as manifests
from exporter.builds.codec import plain
from exporter.builds.folder import find_build
from exporter.capacity.arrivals import Arrivals, Floats, bursts, poisson
from exporter.capacity.batcher import Server, simulate
from exporter.capacity.service_times import ServiceTimes, service_times
from exporter.disk.writing import write_whole
from exporter.errors import InputError, unknown_name
from exporter.host import describe_host
from exporter.measure.throughput import Layout

CALLERS: Final = 16
"""Who ask the server again and again, for the most that it answers: two of the largest batches."""
SETTLE: Final = 0.1
"""The part of the requests that is not counted."""


@dataclass(frozen=True)
class Point:
    """An operating point."""

    processes: int
    threads: int
    max_batch: int
    load: float
    """Of the most that the server answers."""
    arrivals: str = "poisson"

    @property
    def preferred(self) -> tuple[int, ...]:
        """The batch sizes that are worth waiting for, as `exporter capacity` has them."""
        return tuple(size for size in (4, 8) if size <= self.max_batch)


POINTS: Final = (
    Point(1, 1, 1, 0.2),
    Point(1, 1, 1, 0.7),
    Point(1, 1, 8, 0.6),
    Point(1, 1, 8, 0.95),
    Point(1, 1, 1, 0.5, "bursts"),
    Point(1, 1, 1, 1.1),
    Point(2, 1, 1, 0.5),
    Point(2, 1, 1, 0.85),
    Point(2, 1, 1, 0.5, "bursts"),
    Point(2, 1, 4, 0.6, "bursts"),
    Point(2, 1, 1, 1.1),
)
_COME: Final[dict[str, Arrivals]] = {"poisson": poisson, "bursts": bursts}


@dataclass(frozen=True)
class Limits:
    """What a server does at an operating point, besides a load."""

    alone_s: float
    """An answer to one caller, without batches."""
    most_per_s: float
    """Answers to many."""


@dataclass(frozen=True)
class Model:
    """What is simulated."""

    times: ServiceTimes
    pace: float
    server: Server


@dataclass(frozen=True)
class Outcome:
    """A point in a round, predicted and measured."""

    point: Point
    round: int
    most_per_s: float
    rate: float
    requests: int
    pace: float
    """Of the engine's calls against when they were measured, where they are faster; else 1."""
    overhead_ms: float
    busy_overhead_ms: float
    predicted_p50_ms: float
    measured_p50_ms: float
    predicted_p99_ms: float
    measured_p99_ms: float
    late_ms: float
    """The 99th percentile of how late requests left: the load generator's own fault."""


@dataclass(frozen=True)
class Summary:
    """A point over its rounds: medians of the waits, and of a round's predicted to its measured."""

    point: Point
    rate: float
    predicted_p50_ms: float
    measured_p50_ms: float
    p50_ratio: float
    predicted_p99_ms: float
    measured_p99_ms: float
    p99_ratio: float


def single_threaded(measured: Sequence[ServiceTimes]) -> dict[int, ServiceTimes]:
    """By the number of instances: two of a thread each, and one of them beside an idle core.

    Raises:
        InputError: two processes of one thread were not measured: it was on other than two cores.
    """
    both = next((one for one in measured if one.layout == Layout(2, 1, 1)), None)
    if both is None:
        raise InputError(
            "the points are for two instances of a thread each; measure with "
            "`exporter benchmark --throughput --cores 2`"
        )
    return {1: ServiceTimes(Layout(1, 1, 1), both.alone, both.alone), 2: both}


def limits(triton: Triton, point: Point, delay_s: float, seconds: float) -> Limits:
    """Measures the server at a point, and leaves the model loaded for it."""
    triton.load(point.processes, point.threads)
    alone_s = triton.alone_s()
    triton.load(point.processes, point.threads, point.max_batch, point.preferred, delay_s)
    return Limits(alone_s, triton.most_per_s(CALLERS, seconds))


def served(times: ServiceTimes, found: Limits, point: Point, delay_s: float) -> Model:
    """The engine and the server as the simulation takes them."""
    pace = min(1.0, times.images_per_s(point.max_batch) / found.most_per_s)
    paced = replace(
        times,
        alone={batch: pace * calls for batch, calls in times.alone.items()},
        busy={batch: pace * calls for batch, calls in times.busy.items()},
    )
    call_s = float(np.mean(paced.busy[point.max_batch])) / point.max_batch
    server = Server(
        point.max_batch,
        point.preferred,
        delay_s,
        overhead_s=max(0.0, found.alone_s - float(np.median(paced.alone[1]))),
        busy_overhead_s=max(0.0, times.instances / found.most_per_s - call_s),
    )
    return Model(paced, pace, server)


def check(
    triton: Triton, times: ServiceTimes, point: Point, seconds: float, number: int
) -> Outcome:
    """Measures a point in the round of this number, the seed of its arrivals, and predicts it."""
    delay_s = float(np.median(times.alone[1])) if point.max_batch > 1 else 0.0
    found = limits(triton, point, delay_s, seconds / 2)
    rate = point.load * found.most_per_s
    come = _COME[point.arrivals](rate, round(rate * seconds), np.random.default_rng(number))
    waits, late = triton.send(come)
    model = served(times, found, point, delay_s)
    random = np.random.default_rng([number, 1])
    predicted = simulate(come, model.server, model.times, random).waits_s
    predicted_p50, predicted_p99 = settled_ms(predicted)
    measured_p50, measured_p99 = settled_ms(waits)
    return Outcome(
        point,
        number,
        found.most_per_s,
        rate,
        len(come),
        model.pace,
        1e3 * model.server.overhead_s,
        1e3 * model.server.busy_overhead_s,
        predicted_p50,
        measured_p50,
        predicted_p99,
        measured_p99,
        1e3 * float(np.percentile(late, 99)),
    )


def summary(rounds: Sequence[Outcome]) -> Summary:
    """A point's medians."""

    def median(of: Callable[[Outcome], float]) -> float:
        return statistics.median(map(of, rounds))

    return Summary(
        point=rounds[0].point,
        rate=median(lambda one: one.rate),
        predicted_p50_ms=median(lambda one: one.predicted_p50_ms),
        measured_p50_ms=median(lambda one: one.measured_p50_ms),
        p50_ratio=median(lambda one: one.predicted_p50_ms / one.measured_p50_ms),
        predicted_p99_ms=median(lambda one: one.predicted_p99_ms),
        measured_p99_ms=median(lambda one: one.measured_p99_ms),
        p99_ratio=median(lambda one: one.predicted_p99_ms / one.measured_p99_ms),
    )


def settled_ms(waits_s: Floats) -> tuple[float, float]:
    """p50 and p99 in ms of all but the first, which find an empty queue."""
    p50, p99 = np.percentile(waits_s[int(SETTLE * len(waits_s)) :], [50, 99])
    return 1e3 * float(p50), 1e3 * float(p99)


def command(
    build: Annotated[Path, typer.Argument(help="Measured with `benchmark --throughput`.")],
    url: Annotated[str, typer.Argument(help="The server's: http://127.0.0.1:8000.")],
    model: Annotated[str, typer.Argument(help="Its name on the server.")],
    engine: Annotated[
        str | None, typer.Option(help="Which engine the server has; the one with most images/s.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of each load.")] = 30,
    rounds: Annotated[int, typer.Option(min=1, help="Each measures every point.")] = 5,
    instances: Annotated[
        int | None, typer.Option(min=1, max=2, help="Only the points with so many.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Writes a JSON of all rounds there.")] = None,
) -> None:
    """Lay what `exporter capacity` predicts beside what a Triton server here does."""
    manifest = manifests.read(find_build(build))
    if isinstance(manifest.throughput, Skipped):
        raise InputError(f"{build}: run `exporter benchmark --throughput` on it first")
    points = manifest.throughput.points
    engine = engine or max(points, key=lambda one: one.images_per_s).engine
    known = list(dict.fromkeys(point.engine for point in points))
    if engine not in known:
        raise unknown_name("engine", engine, known)
    found = single_threaded(service_times(point for point in points if point.engine == engine))
    triton = Triton(url, model)
    outcomes = []
    asked = [point for point in POINTS if instances in (None, point.processes)]
    for number in range(rounds):
        for point in asked:
            one = check(triton, found[point.processes], point, seconds, number)
            outcomes.append(one)
            print(_row(one), flush=True)  # noqa: T201
    summaries = [summary([one for one in outcomes if one.point == point]) for point in asked]
    print("\n".join(["medians", *map(_summary_row, summaries)]))  # noqa: T201
    if out:
        raw = {
            "kind": "capacity-check",
            "model": manifest.model.name,
            "engine": engine,
            "seconds": seconds,
            "host": plain(describe_host()),
            "points": [asdict(one) for one in summaries],
            "rounds": [asdict(one) for one in outcomes],
        }
        write_whole(out, json.dumps(raw, indent=1) + "\n")


def _words(point: Point) -> str:
    return (
        f"{point.processes} x {point.threads} thread, batch {point.max_batch}, "
        f"{point.load:4.0%} {point.arrivals:8}"
    )


def _wait(name: str, measured_ms: float, predicted_ms: float, ratio: float) -> str:
    return f"{name} {measured_ms:6.1f} (predicted {predicted_ms:6.1f}, {ratio - 1:+.0%})"


def _row(one: Outcome) -> str:
    p50, p99 = one.measured_p50_ms, one.measured_p99_ms
    return (
        f"{one.round} {_words(one.point)} {one.rate:6.1f}/s  "
        f"{_wait('p50', p50, one.predicted_p50_ms, one.predicted_p50_ms / p50)}  "
        f"{_wait('p99', p99, one.predicted_p99_ms, one.predicted_p99_ms / p99)}  "
        f"pace {one.pace:.3f}, overhead {one.overhead_ms:.2f}, busy {one.busy_overhead_ms:.2f}, "
        f"late {one.late_ms:.2f} ms"
    )


def _summary_row(one: Summary) -> str:
    return (
        f"{_words(one.point)} {one.rate:6.1f}/s  "
        f"{_wait('p50', one.measured_p50_ms, one.predicted_p50_ms, one.p50_ratio)}  "
        f"{_wait('p99', one.measured_p99_ms, one.predicted_p99_ms, one.p99_ratio)}"
    )


if __name__ == "__main__":
    finish_alone(command)
