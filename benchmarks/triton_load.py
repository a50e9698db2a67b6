"""A Triton server under load: a model loaded as asked, and requests alone, in turn, or at times."""

from __future__ import annotations

import http.client
import json
import queue
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from exporter.capacity.arrivals import Floats
from exporter.errors import InputError

CONNECTIONS: Final = 96
"""Requests that may be on their way at once; more wait here, and that wait counts."""
_ALONE: Final = 40
"""Requests, one at a time, that tell what an answer takes."""
_SETTLE_S: Final = 1.0


class Triton:
    """A model of a server in the model control mode `explicit`, through its HTTP interface.

    Raises:
        InputError: of every method: the server cannot be reached, or answers with an error.
    """

    def __init__(self, url: str, model: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._model = parts.hostname or "127.0.0.1", parts.port or 80, model
        self.url = url.rstrip("/")
        self._body = b""
        self._headers: dict[str, str] = {}

    def load(
        self,
        processes: int,
        threads: int,
        max_batch: int = 1,
        preferred: tuple[int, ...] = (),
        delay_s: float = 0.0,
    ) -> None:
        """Loads the model with these instances and batches."""
        config = self._json(f"/v2/models/{self._model}/config")
        config["max_batch_size"] = max_batch
        config["instance_group"] = [{"kind": "KIND_CPU", "count": processes}]
        config["parameters"]["threads"] = {"string_value": str(threads)}
        config.pop("dynamic_batching", None)
        config.pop("model_warmup", None)
        if max_batch > 1:
            config["dynamic_batching"] = {
                "preferred_batch_size": list(preferred),
                "max_queue_delay_microseconds": round(1e6 * delay_s),
            }
        body = {"parameters": {"config": json.dumps(config)}}
        self._json(f"/v2/repository/models/{self._model}/load", body)
        self._prepare()

    def alone_s(self) -> float:
        """The median answer to one caller who asks again once it is answered."""
        taken = []
        with self._connected() as connection:
            for _ in range(_ALONE):
                start = time.perf_counter()
                self._ask(connection)
                taken.append(time.perf_counter() - start)
        return statistics.median(taken[_ALONE // 4 :])

    def most_per_s(self, callers: int, seconds: float) -> float:
        """Answers a second to so many callers, each of whom asks again once it is answered.

        The slope of a line through the moments of the answers: those of a batch come together, and
        to count them between two moments would be a whole batch wrong.
        """
        answered: list[float] = []
        begin = time.perf_counter() + _SETTLE_S
        end = begin + seconds

        def work() -> None:
            with self._connected() as connection:
                while time.perf_counter() < end:
                    self._ask(connection)
                    answered.append(time.perf_counter())

        _together([work] * callers)
        moments = np.array(sorted(one for one in answered if begin <= one < end))
        if len(moments) < 2:
            raise InputError(
                f"{self._model} gave {len(moments)} answers in {seconds:g} s: too few to tell a "
                "rate; measure longer"
            )
        return float(np.polyfit(moments - begin, np.arange(len(moments)), 1)[0])

    def send(self, times: Floats) -> tuple[Floats, Floats]:
        """Sends a request at each time, whether or not earlier ones are answered.

        Returns:
            The waits from that time on, and how late each left, in seconds.
        """
        due: queue.SimpleQueue[int] = queue.SimpleQueue()
        waits, late = np.zeros(len(times)), np.zeros(len(times))
        begin = time.perf_counter() + _SETTLE_S

        def work() -> None:
            with self._connected() as connection:
                while (number := due.get()) >= 0:
                    late[number] = time.perf_counter() - begin - times[number]
                    self._ask(connection)
                    waits[number] = time.perf_counter() - begin - times[number]

        def clock() -> None:
            for number, moment in enumerate(times):
                time.sleep(max(0.0, begin + moment - time.perf_counter()))
                due.put(number)
            for _ in range(CONNECTIONS):
                due.put(-1)

        _together([clock, *[work] * CONNECTIONS])
        return waits, late

    @contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        with closing(http.client.HTTPConnection(self._host, self._port, timeout=120)) as connection:
            yield connection

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        """One image, one answer."""
        connection.request("POST", f"/v2/models/{self._model}/infer", self._body, self._headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise InputError(f"the server answers {answer.status}: {content[:200]!r}")

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
        request = urllib.request.Request(self.url + path, data)  # noqa: S310 - the user's server
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                text = answer.read()
        except OSError as error:
            raise InputError(f"{self.url}{path}: {error}") from None
        return json.loads(text) if text else None


def _together(works: list[Callable[[], None]]) -> None:
    """Each in a thread of its own; a failure is raised once all have ended."""
    with ThreadPoolExecutor(len(works)) as pool:
        running = [pool.submit(work) for work in works]
    for one in running:
        one.result()
