"""What `exporter capacity` predicts beside what a Triton server on this machine does.

    python -m benchmarks.capacity_check BUILD URL MODEL [--engine ID] [--seconds 40] [--out FILE]

BUILD was measured with `exporter benchmark --throughput`; URL is a server with model control mode
`explicit` that has MODEL, packed from that build with `--format triton`. Each operating point loads
the model with its own instances and batching (the repository API takes a configuration), sends
single images at the times of an open load whether or not earlier ones are answered, and simulates
the very same times. What the server adds to an answer is measured first, a request at a time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import statistics
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from exporter.artifact import Skipped
from exporter.builds import manifest as manifests
from exporter.builds.codec import plain
from exporter.builds.folder import find_build
from exporter.capacity.arrivals import Arrivals, Floats, bursts, poisson
from exporter.capacity.batcher import Server, simulate
from exporter.capacity.service_times import ServiceTimes, service_times
from exporter.disk.writing import write_whole
from exporter.errors import InputError
from exporter.host import describe_host

CONNECTIONS: Final = 96
"""Requests that may be on their way at once; more wait here, and that wait counts."""
ALONE: Final = 60
"""Requests, one at a time, that tell what the server adds."""
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


POINTS: Final = (
    Point(1, 2, 1, 0.2),
    Point(1, 2, 1, 0.7),
    Point(1, 2, 8, 0.6),
    Point(2, 1, 1, 0.5),
    Point(2, 1, 1, 0.85),
    Point(2, 1, 1, 0.5, "bursts"),
    Point(2, 1, 4, 0.6, "bursts"),
    Point(1, 2, 8, 0.95),
    Point(2, 1, 1, 1.1),
)
_COME: Final[dict[str, Arrivals]] = {"poisson": poisson, "bursts": bursts}


@dataclass(frozen=True)
class Outcome:
    """A point, predicted and measured."""

    point: Point
    rate: float
    requests: int
    overhead_ms: float
    predicted_p50_ms: float
    measured_p50_ms: float
    predicted_p99_ms: float
    measured_p99_ms: float
    late_ms: float
    """The 99th percentile of how late requests left: the load generator's own fault."""


class Triton:
    """A server, through its HTTP interface."""

    def __init__(self, url: str, model: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._model = parts.hostname or "127.0.0.1", parts.port or 80, model
        self._url = url.rstrip("/")
        self._body = b""
        self._headers: dict[str, str] = {}

    def load(self, point: Point, delay_s: float) -> None:
        """Loads the model with a point's instances and batching."""
        config = self._json(f"/v2/models/{self._model}/config")
        config["max_batch_size"] = point.max_batch
        config["instance_group"] = [{"kind": "KIND_CPU", "count": point.processes}]
        config["parameters"]["threads"] = {"string_value": str(point.threads)}
        config.pop("dynamic_batching", None)
        config.pop("model_warmup", None)
        if point.max_batch > 1:
            config["dynamic_batching"] = {
                "preferred_batch_size": list(preferred(point)),
                "max_queue_delay_microseconds": round(1e6 * delay_s),
            }
        body = {"parameters": {"config": json.dumps(config)}}
        self._json(f"/v2/repository/models/{self._model}/load", body)
        self._prepare()

    def ask(self, connection: http.client.HTTPConnection) -> None:
        """One image, one answer."""
        connection.request("POST", f"/v2/models/{self._model}/infer", self._body, self._headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise InputError(f"the server answers {answer.status}: {content[:200]!r}")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=120)

    def _prepare(self) -> None:
        """The one request that is sent over and over, with its image as bytes behind the JSON."""
        (given,) = self._json(f"/v2/models/{self._model}")["inputs"]
        shape = [1, *given["shape"][1:]]
        generator = np.random.default_rng(0)
        if given["datatype"] == "UINT8":
            image = generator.integers(0, 256, shape, np.uint8)
        else:  # normalised: the engine refuses pixels
            image = generator.standard_normal(shape, np.float32)
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": given["name"],
                        "shape": shape,
                        "datatype": given["datatype"],
                        "parameters": {"binary_data_size": image.nbytes},
                    }
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        self._body = head + image.tobytes()
        self._headers = {"Inference-Header-Content-Length": str(len(head))}

    def _json(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data)  # noqa: S310 - the user's server
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                text = answer.read()
        except OSError as error:
            raise InputError(f"{self._url}{path}: {error}") from None
        return json.loads(text) if text else None


def preferred(point: Point) -> tuple[int, ...]:
    """The batch sizes that are worth waiting for, as `exporter capacity` has them."""
    return tuple(size for size in (4, 8) if size <= point.max_batch)


def alone_ms(triton: Triton) -> float:
    """The median answer to one caller."""
    connection = triton.connect()
    taken = []
    for _ in range(ALONE):
        start = time.perf_counter()
        triton.ask(connection)
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken[ALONE // 4 :])


def send(triton: Triton, times: Floats) -> tuple[Floats, Floats]:
    """Sends a request at each time; the waits from that time on and how late each left, in s."""
    due: queue.SimpleQueue[int] = queue.SimpleQueue()
    waits, late = np.zeros(len(times)), np.zeros(len(times))
    failures: list[Exception] = []
    begin = time.perf_counter() + 1.0

    def work() -> None:
        connection = triton.connect()
        while (number := due.get()) >= 0:
            late[number] = time.perf_counter() - begin - times[number]
            try:
                triton.ask(connection)
            except Exception as error:  # raised again in the thread that waits
                failures.append(error)
                return
            waits[number] = time.perf_counter() - begin - times[number]

    threads = [threading.Thread(target=work, daemon=True) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for number, moment in enumerate(times):
        time.sleep(max(0.0, begin + moment - time.perf_counter()))
        due.put(number)
    for _ in threads:
        due.put(-1)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return waits, late


def check(
    triton: Triton, found: Sequence[ServiceTimes], point: Point, seconds: float, seed: int
) -> Outcome:
    """Measures a point, and predicts it."""
    times = next(
        one
        for one in found
        if (one.layout.processes, one.layout.streams, one.layout.threads)
        == (point.processes, 1, point.threads)
    )
    delay_s = float(np.median(times.alone[1])) if point.max_batch > 1 else 0.0
    rate = point.load * times.images_per_s(point.max_batch)
    triton.load(replace(point, max_batch=1), 0.0)
    overhead_s = max(0.0, alone_ms(triton) / 1e3 - float(np.median(times.alone[1])))
    if point.max_batch > 1:
        triton.load(point, delay_s)
    come = _COME[point.arrivals](rate, round(rate * seconds), np.random.default_rng(seed))
    waits, late = send(triton, come)
    server = Server(point.max_batch, preferred(point), delay_s, overhead_s=overhead_s)
    predicted = simulate(come, server, times, np.random.default_rng(seed + 1)).waits_s
    predicted_p50, predicted_p99 = settled_ms(predicted)
    measured_p50, measured_p99 = settled_ms(waits)
    return Outcome(
        point,
        rate,
        len(come),
        1e3 * overhead_s,
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
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    manifest = manifests.read(find_build(options.build))
    if isinstance(manifest.throughput, Skipped):
        raise SystemExit(f"{options.build}: run `exporter benchmark --throughput` on it first")
    points = manifest.throughput.points
    engine = options.engine or max(points, key=lambda one: one.images_per_s).engine
    found = service_times(point for point in points if point.engine == engine)
    triton = Triton(options.url, options.model)
    outcomes = []
    print("processes threads batch load arrivals  images/s  p50 (predicted)  p99 (predicted)")  # noqa: T201
    for point in POINTS:
        one = check(triton, found, point, options.seconds, options.seed)
        outcomes.append(one)
        print(_row(one), flush=True)  # noqa: T201
    if options.out:
        raw = {
            "kind": "capacity-check",
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
        f"overhead {one.overhead_ms:.2f} ms, late {one.late_ms:.2f} ms"
    )


if __name__ == "__main__":
    main()
