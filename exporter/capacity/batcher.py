"""A machine that serves one engine as Triton does, simulated event by event.

Triton's scheduler has a queue of requests and, a payload being a batch that it has closed or may
still add to, a queue of payloads of twice the instances' number. Without dynamic batching a request
is a payload. With it

* a payload is sent as soon as it has a preferred size, or the largest; or once its oldest request
  has waited for the delay;
* one that no instance has taken yet grows up to the largest size, by whole preferred sizes or by
  what has waited for the delay; without a delay it is closed at the first preferred size;
* a request that has waited beyond the timeout is rejected when the scheduler comes to it.

An instance takes the payload at the head, and with it those behind that fit and have waited for the
delay. While k instances compute, each goes on at the pace that was measured with k of them busy.
What the server does for a request that arrives while all of them compute, it takes from them.
Sources: dynamic_batch_scheduler.cc, rate_limiter.cc and instance_queue.cc of
https://github.com/triton-inference-server/core.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from exporter.capacity.service_times import ServiceTimes

Floats = npt.NDArray[np.float64]

_NOTHING_S: Final = 1e-9
"""Less is left of a call by rounding alone: the clock counts seconds in float64."""


@dataclass(frozen=True)
class Server:
    """What `config.pbtxt` says, in seconds."""

    max_batch: int = 1
    preferred: tuple[int, ...] = ()
    delay_s: float = 0.0
    timeout_s: float = math.inf
    overhead_s: float = 0.0
    """What the server adds to an answer: the network's protocol, copies between processes."""
    busy_overhead_s: float = 0.0
    """Processor time that each request takes from instances that are all busy."""

    @property
    def batches(self) -> bool:
        """Whether requests are put together at all."""
        return self.max_batch > 1

    @property
    def enough(self) -> int:
        """A batch of this size waits for nobody."""
        return max(self.preferred, default=self.max_batch)


@dataclass(frozen=True)
class Served:
    """What became of the requests."""

    waits_s: Floats
    """Of each that was answered, from its arrival to the answer."""
    rejected: int
    seconds: float
    """From the first arrival to the last event."""
    busy_s: float
    """Of all instances together."""
    batches: int

    @property
    def mean_batch(self) -> float:
        return len(self.waits_s) / max(1, self.batches)


@dataclass
class _Call:
    """A batch that is computed."""

    requests: list[float]
    durations: tuple[float, ...]
    """With 1, 2, ... instances busy."""
    left: float = 1.0
    """The part of it that is still to do."""


@dataclass
class _Machine:
    server: Server
    times: ServiceTimes
    levels: list[float]
    """One a batch, from the end: where in its distribution it lies."""
    now: float = 0.0
    waiting: deque[float] = field(default_factory=deque)
    """Arrivals that are in no payload yet."""
    payloads: deque[list[float]] = field(default_factory=deque)
    open: list[float] | None = None
    """The payload that may grow: the last one, or none."""
    calls: list[_Call] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    rejected: int = 0
    busy_s: float = 0.0
    batches: int = 0

    def arrive(self, time: float) -> None:
        self.waiting.append(time)
        if len(self.calls) == self.times.instances:  # no core is idle: the calls share the work
            share_s = self.server.busy_overhead_s / len(self.calls)
            for call in self.calls:
                call.left += share_s / call.durations[-1]

    def advance(self, to: float) -> None:
        """Goes on computing until a moment; what is done then is answered."""
        busy, passed = len(self.calls), to - self.now
        self.now = to
        if not busy:
            return
        self.busy_s += busy * passed
        going = []
        for call in self.calls:
            call.left -= passed / call.durations[busy - 1]
            if call.left * call.durations[busy - 1] > _NOTHING_S:
                going.append(call)
            else:
                extra = to + self.server.overhead_s
                self.waits_s += [extra - arrived for arrived in call.requests]
        self.calls = going

    def next_done(self) -> float:
        busy = len(self.calls)
        least = min((call.left * call.durations[busy - 1] for call in self.calls), default=math.inf)
        return self.now + least

    def schedule(self) -> float:
        """Does all that can be done now; the moment at which it must look again."""
        while True:
            look_again = self._form() if self.server.batches else self._each_alone()
            if not self._start():
                return look_again

    def _each_alone(self) -> float:
        while self.waiting:
            self.payloads.append([self.waiting.popleft()])
        return math.inf

    def _form(self) -> float:
        """Moves requests into payloads as the scheduler does."""
        server = self.server
        while self.waiting and len(self.payloads) < 2 * self.times.instances:
            self._reject()
            if not self.waiting:
                return math.inf
            size, there = len(self.open or ()), len(self.waiting)
            room = server.max_batch - size
            full = size + there >= server.enough
            sizes = [p - size for p in server.preferred if size < p <= size + there]
            due = self.waiting[0] + server.delay_s
            waited = server.delay_s > 0 and self.now >= due
            if sizes and not waited:
                taken, closed = max(sizes), server.delay_s == 0
            elif full:
                taken, closed = min(there, room), True
            elif waited or server.delay_s == 0 or (size and size not in server.preferred):
                taken, closed = min(there, room), False
            else:
                return due
            self._add(taken)
            if closed:
                self.open = None
        return math.inf

    def _add(self, count: int) -> None:
        if self.open is None:
            self.open = []
            self.payloads.append(self.open)
        self.open += [self.waiting.popleft() for _ in range(count)]

    def _reject(self) -> None:
        while self.waiting and self.now - self.waiting[0] > self.server.timeout_s:
            self.waiting.popleft()
            self.rejected += 1

    def _start(self) -> bool:
        """Gives idle instances what is ready; whether one has taken anything."""
        started = False
        while self.payloads and len(self.calls) < self.times.instances:
            taken = self._dequeue()
            level = self.levels.pop() if self.levels else 0.5
            self.calls.append(_Call(taken, self.times.durations(len(taken), level)))
            self.batches += 1
            started = True
        return started

    def _dequeue(self) -> list[float]:
        taken = self.payloads.popleft()
        while self.server.batches and self.server.delay_s and self.payloads:
            following = self.payloads[0]
            waited = self.now - following[0] > self.server.delay_s
            if not waited or len(taken) + len(following) > self.server.max_batch:
                break
            taken = taken + self.payloads.popleft()
        if not self.payloads:
            self.open = None  # it was the last one, and is computed now
        return taken


def simulate(
    arrivals: Floats, server: Server, times: ServiceTimes, random: np.random.Generator
) -> Served:
    """Serves requests of one image each that arrive at these times, until all are answered."""
    machine = _Machine(server, times, random.random(len(arrivals)).tolist())
    pending = deque(arrivals.tolist())
    look_again = math.inf
    while pending or machine.waiting or machine.payloads or machine.calls:
        arrival = pending[0] if pending else math.inf
        machine.advance(min(arrival, machine.next_done(), look_again))
        while pending and pending[0] <= machine.now:
            machine.arrive(pending.popleft())
        look_again = machine.schedule()
    return Served(
        waits_s=np.array(machine.waits_s),
        rejected=machine.rejected,
        seconds=machine.now - float(arrivals[0]),
        busy_s=machine.busy_s,
        batches=machine.batches,
    )
